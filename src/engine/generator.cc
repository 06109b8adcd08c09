#include "kvr/engine/generator.h"

#include <algorithm>
#include <cassert>

#include "kvr/base/clock.h"
#include "kvr/base/error.h"
#include "kvr/base/interrupt.h"
#include "kvr/base/utf8.h"
#include "kvr/model/machine.h"

namespace kvr::engine {

const char* ToString(Arm arm) { return arm == Arm::kBaseline ? "baseline" : "recycled"; }

const char* ToString(Policy policy) {
  switch (policy) {
    case Policy::kOff:
      return "off";
    case Policy::kEmbedding:
      return "embedding";
    case Policy::kPrefix:
      return "prefix";
  }
  return "";
}

Policy PolicyFromString(std::string_view text) {
  for (const Policy policy : {Policy::kOff, Policy::kEmbedding, Policy::kPrefix}) {
    if (text == ToString(policy)) return policy;
  }
  throw InvalidInput("policy: found '" + std::string(text) +
                     "', expected embedding, prefix or off");
}

const char* ToString(Outcome outcome) {
  switch (outcome) {
    case Outcome::kHit:
      return "hit";
    case Outcome::kMiss:
      return "miss";
    case Outcome::kOff:
      return "off";
  }
  return "";
}

namespace {

cache::CacheKey MakeCacheKey(const model::LanguageModel& language_model) {
  const model::Runtime runtime = model::DescribeRuntime();
  const model::ArchiveInfo& archive = language_model.info();
  cache::CacheKey key;
  key.model_fingerprint = archive.fingerprint;
  key.shape = {.layers = static_cast<std::uint32_t>(archive.layers),
               .kv_heads = static_cast<std::uint32_t>(archive.kv_heads),
               .head_dim = static_cast<std::uint32_t>(archive.head_dim)};
  key.block_tokens = static_cast<std::uint32_t>(language_model.block_tokens());
  key.device = language_model.device_description();
  key.cpu_model = runtime.cpu_model;
  key.instruction_set = runtime.instruction_set;
  key.threads = static_cast<std::uint32_t>(runtime.threads);
  key.libtorch_version = runtime.libtorch_version;
  key.kernel_path = language_model.kernel_path();
  return key;
}

}  // namespace

Generator::Generator(const Options& options)
    : model_(options.model, options.language_model),
      key_(MakeCacheKey(model_)),
      tokenizer_(model_.info().metadata.at("tokenizer"), model_.info().tokenizer_model),
      buffer_(model_.NewBuffer(model_.block_tokens())) {
  const nlohmann::json& chat = model_.info().metadata.at("template");
  if (!chat.is_null()) template_.emplace(chat);
  if (!options.encoder.empty()) {
    encoder_ = std::make_unique<model::Encoder>(options.encoder);
    word_pieces_.emplace(encoder_->info().metadata.at("tokenizer"),
                         encoder_->info().tokenizer_model);
  }
}

std::uint64_t Generator::kv_bytes_per_token() const { return key_.shape.PayloadBytes(1); }

cache::CacheKey Generator::cache_key(cache::Codec codec) const {
  cache::CacheKey key = key_;
  key.codec = codec;
  return key;
}

void Generator::OpenStore(const std::filesystem::path& cache_dir, cache::Store::Options options,
                          cache::Codec codec) {
  stores_.erase(codec);
  auto store = std::make_unique<cache::Store>(cache_dir, cache_key(codec), std::move(options));
  stores_[codec] = std::move(store);  // nothing is left there when opening fails
}

cache::Store* Generator::store(cache::Codec codec) {
  const auto found = stores_.find(codec);
  return found == stores_.end() ? nullptr : found->second.get();
}

const model::Probe& Generator::probe() {
  if (!probe_) probe_ = model_.RunProbe();
  return *probe_;
}

Generator::Embedding Generator::Embed(std::string_view text) {
  assert(encoder_ != nullptr);
  const text::WordPieces pieces =
      word_pieces_->Encode(text, static_cast<std::size_t>(encoder_->info().context_tokens));
  return {encoder_->Embed(pieces.ids), pieces.ids.size(), pieces.pieces_total};
}

std::string Generator::Text(const Tokens& tokens) const {
  return SanitizeUtf8(tokenizer_.Decode(tokens, /*skip_special=*/true)).text;
}

void Generator::Reserve(std::size_t tokens) {
  if (static_cast<std::size_t>(buffer_.capacity_tokens()) >= tokens) return;
  resident_.clear();
  buffer_ = model_.NewBuffer(static_cast<int>(tokens));
}

cache::KvBufferView Generator::BufferView() {
  return {buffer_.keys(), buffer_.values(), static_cast<std::uint32_t>(buffer_.capacity_tokens())};
}

std::size_t Generator::PieceTokens() {
  const int block = model_.block_tokens(), longest = model_.chunk_tokens();
  return static_cast<std::size_t>(longest > block && probe().exact ? longest : block);
}

std::vector<float> Generator::Prefill(std::span<const Token> tokens, std::size_t start,
                                      int free_piece) {
  const auto block = static_cast<std::size_t>(model_.block_tokens());
  const std::size_t piece = free_piece > 0 ? static_cast<std::size_t>(free_piece) : PieceTokens();
  std::vector<float> logits;
  while (start < tokens.size()) {
    ThrowIfInterrupted();
    // A piece no longer than a block ends at the block's edge.
    const std::size_t most = free_piece == 0 && piece == block ? block - start % block : piece;
    const std::size_t end = std::min(start + most, tokens.size());
    logits = model_.Prefill(tokens.subspan(start, end - start), static_cast<int>(start), buffer_);
    start = end;
  }
  return logits;
}

std::size_t Generator::Recycle(const Request& request, Generation& generation) {
  Timings& timings = generation.timings;
  generation.outcome = Outcome::kMiss;
  const cache::Query query{.tokens = request.tokens,
                           .text = request.text,
                           .match = request.reuse.match,
                           .minimum_depth = request.reuse.min_depth};
  cache::Plan plan;
  Stopwatch watch;
  if (request.reuse.policy == Policy::kEmbedding) {
    const Embedding embedding = Embed(request.text);
    timings.embed_ms = watch.LapMs();
    const std::vector<cache::Candidate> candidates = request.view->Nearest(
        embedding.values, encoder_->info().fingerprint,
        static_cast<std::size_t>(request.reuse.candidates), request.reuse.min_similarity);
    plan = request.view->LongestVerified(candidates, query);
    if (!candidates.empty()) generation.similarity = candidates.front().similarity;
  } else {
    plan = request.view->WalkPrefix(query);
  }
  timings.lookup_ms = watch.LapMs();
  generation.limited_by = plan.limited_by;
  generation.entry = plan.entry;
  if (plan.depth == 0) return 0;

  cache::Store& store = *this->store(request.reuse.codec);
  if (request.cold) store.DropFromPageCache(plan);

  watch.LapMs();
  const cache::RestoreResult restored =
      store.Restore(plan, BufferView(), static_cast<int>(key_.threads));
  buffer_.Upload(0, static_cast<int>(restored.tokens));
  if (restored.tokens < plan.depth) {
    // A bad block leaves its positions unspecified; what attention masks out must be finite.
    buffer_.Clear(static_cast<int>(restored.tokens),
                  static_cast<int>(plan.CapacityNeeded() - restored.tokens));
  }
  timings.restore_ms = watch.LapMs();
  generation.limited_by = restored.limited_by;
  generation.restored_bytes = restored.bytes;
  generation.resident_fraction = restored.resident_fraction;
  if (restored.tokens == 0) return 0;
  generation.outcome = Outcome::kHit;
  generation.reuse_depth = static_cast<int>(restored.tokens);
  if (request.reuse.policy == Policy::kEmbedding) generation.similarity = plan.similarity;
  generation.exact_claimed =
      cache::IsExact(request.reuse.codec) &&
      (restored.tokens % static_cast<std::uint32_t>(model_.block_tokens()) == 0 || probe().exact);
  return restored.tokens;
}

Generation Generator::Generate(const Request& request) {
  const std::size_t count = request.tokens.size();
  const int limit =
      request.forced.empty() ? request.max_new_tokens : static_cast<int>(request.forced.size());
  if (count == 0) throw InvalidInput("the prompt is empty: at least one token is needed");
  if (limit < 1) {
    throw InvalidInput("max_new_tokens: found " + std::to_string(limit) + ", expected 1 or more");
  }
  if (static_cast<std::int64_t>(count) + limit > info().context_tokens) {
    throw InvalidInput("the prompt has " + std::to_string(count) + " tokens; with " +
                       std::to_string(limit) + " to generate it passes the context of " +
                       std::to_string(info().context_tokens) + " tokens of " + info().name +
                       " (--truncate left cuts the prompt)");
  }
  Sampler sampler(request.sampling);
  Reserve(count + static_cast<std::size_t>(limit));
  resident_.clear();

  (void)PieceTokens();  // may probe, which belongs on no clock
  Generation generation;
  std::size_t start = 0;
  if (request.arm == Arm::kRecycled && request.reuse.policy != Policy::kOff) {
    if (request.view == nullptr || store(request.reuse.codec) == nullptr) {
      throw InvalidInput(std::string("no cache of codec ") + cache::ToString(request.reuse.codec) +
                         " is open");
    }
    if (request.reuse.policy == Policy::kEmbedding && encoder_ == nullptr) {
      throw InvalidInput("policy embedding needs an encoder: give --encoder FILE");
    }
    if (request.reuse.match != cache::Match::kBlock) (void)probe();
    start = Recycle(request, generation);
  }

  Timings& timings = generation.timings;
  // A network's vocabulary may be padded; what no tokenizer id stands for is never drawn.
  const auto drawable = [&](const std::vector<float>& logits) {
    const auto ids = static_cast<std::size_t>(tokenizer_.vocab_size());
    return std::span<const float>(logits).first(std::min(ids, logits.size()));
  };
  const auto keep = [&](std::vector<float>& logits) {
    const std::size_t at = generation.tokens.size();
    const Token token =
        at < request.forced.size() ? request.forced[at] : sampler.Pick(drawable(logits));
    generation.tokens.push_back(token);
    if (request.keep_logits) generation.logits.push_back(std::move(logits));
    return token;
  };
  const auto ended = [&](Token token) {
    return request.forced.empty() && request.stop_at_eos &&
           std::find(info().eos_ids.begin(), info().eos_ids.end(), token) != info().eos_ids.end();
  };

  generation.token_ms.reserve(static_cast<std::size_t>(limit));
  Stopwatch watch;
  std::vector<float> logits = Prefill(request.tokens, start, request.free_piece_tokens);
  Token token = keep(logits);
  timings.prefill_ms = watch.ElapsedMs();
  timings.ttft_ms = timings.embed_ms + timings.lookup_ms + timings.restore_ms + timings.prefill_ms;
  generation.token_ms.push_back(timings.ttft_ms);
  if (request.free_piece_tokens == 0) {
    // Below an inexact restore only whole restored blocks are exact; below a lossy one, nothing.
    const std::size_t block = static_cast<std::size_t>(model_.block_tokens());
    const std::size_t restored = cache::IsExact(request.reuse.codec) ? start / block * block : 0;
    const std::size_t exact = generation.exact_claimed ? count : restored;
    resident_.assign(request.tokens.begin(),
                     request.tokens.begin() + static_cast<std::ptrdiff_t>(exact));
  }
  if (request.on_token) request.on_token(token);

  std::size_t past = count;
  while (!(generation.ended = ended(token)) && static_cast<int>(generation.tokens.size()) < limit) {
    ThrowIfInterrupted();
    Stopwatch step;
    logits = model_.Decode(token, static_cast<int>(past++), buffer_);
    token = keep(logits);
    timings.decode_ms += step.ElapsedMs();
    generation.token_ms.push_back(timings.ttft_ms + timings.decode_ms);
    if (request.on_token) request.on_token(token);
  }
  timings.total_ms = timings.ttft_ms + timings.decode_ms;
  return generation;
}

void Generator::WarmUp() {
  Request request;
  request.tokens.assign(static_cast<std::size_t>(std::min(32, info().context_tokens - 2)), 1);
  request.max_new_tokens = 2;
  request.stop_at_eos = false;
  (void)Generate(request);
  if (encoder_ != nullptr) (void)Embed("a few words");
}

SaveResult Generator::Save(const std::string& text, cache::Codec codec) {
  return SaveEntry({.text = text, .tokens = tokenizer_.Encode(text)}, codec);
}

SaveResult Generator::Save(Tokens tokens, cache::Codec codec) {
  return SaveEntry({.tokens = std::move(tokens)}, codec);
}

SaveResult Generator::SaveEntry(cache::NewEntry entry, cache::Codec codec) {
  assert(store(codec) != nullptr);
  SaveResult result;
  if (entry.tokens.empty()) throw InvalidInput("an empty prompt can't be cached");
  if (static_cast<int>(entry.tokens.size()) > info().context_tokens) {
    throw InvalidInput("the text has " + std::to_string(entry.tokens.size()) +
                       " tokens, more than the context of " +
                       std::to_string(info().context_tokens) + " tokens of " + info().name);
  }
  if (static_cast<std::size_t>(buffer_.capacity_tokens()) < entry.tokens.size()) {
    // Growing would lose what is resident; carry it over.
    model::KvBuffer larger = model_.NewBuffer(static_cast<int>(entry.tokens.size()));
    larger.CopyFrom(buffer_, static_cast<int>(resident_.size()));
    buffer_ = std::move(larger);
  }
  const auto differ =
      std::mismatch(resident_.begin(), resident_.end(), entry.tokens.begin(), entry.tokens.end());
  auto start = static_cast<std::size_t>(differ.first - resident_.begin());
  // Inside a block a restart is exact only where the probe says so.
  const auto block = static_cast<std::size_t>(model_.block_tokens());
  if (start % block != 0 && start < entry.tokens.size() && !probe().exact) {
    start = start / block * block;
  }
  resident_.resize(start);  // what follows is about to be overwritten
  (void)PieceTokens();      // may probe, which belongs on no clock
  Stopwatch watch;
  Prefill(entry.tokens, start, 0);
  result.prefill_ms = watch.LapMs();
  result.prefilled = static_cast<int>(entry.tokens.size() - start);
  resident_ = entry.tokens;
  if (encoder_ != nullptr && !entry.text.empty()) {
    const Embedding embedding = Embed(entry.text);
    entry.embedding = embedding.values;
    entry.encoder = encoder_->info().fingerprint;
    entry.pieces_embedded = static_cast<std::uint32_t>(embedding.pieces_embedded);
    entry.pieces_total = static_cast<std::uint32_t>(embedding.pieces_total);
  }
  result.tokens = static_cast<int>(entry.tokens.size());
  buffer_.Download(0, result.tokens);
  result.put = store(codec)->Put(entry, BufferView(), static_cast<std::uint32_t>(result.tokens));
  result.save_ms = watch.LapMs();
  return result;
}

}  // namespace kvr::engine
