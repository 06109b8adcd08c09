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

std::size_t Generator::ChunkTokens() {
  const int block = model_.block_tokens(), longest = model_.chunk_tokens();
  return static_cast<std::size_t>(longest > block && probe().exact ? longest : block);
}

std::vector<float> Generator::Prefill(std::span<const Token> tokens, std::size_t start,
                                      int free_chunk, Work* work) {
  const auto block = static_cast<std::size_t>(model_.block_tokens());
  const std::size_t chunk = free_chunk > 0 ? static_cast<std::size_t>(free_chunk) : ChunkTokens();
  std::vector<float> logits;
  while (start < tokens.size()) {
    ThrowIfInterrupted();
    // A chunk no longer than a block ends at the block's edge.
    const std::size_t most = free_chunk == 0 && chunk == block ? block - start % block : chunk;
    const std::size_t end = std::min(start + most, tokens.size());
    logits = model_.Prefill(tokens.subspan(start, end - start), static_cast<int>(start), buffer_);
    if (work != nullptr) {
      work->prefilled_tokens += static_cast<std::int64_t>(end - start);
      ++work->forward_passes;
    }
    start = end;
  }
  return logits;
}

void Generator::WarmUp() {
  Request request;
  request.tokens.assign(static_cast<std::size_t>(std::min(32, info().context_tokens - 2)), 1);
  request.max_new_tokens = 2;
  request.stop_at_eos = false;
  (void)Generate(request);
  if (encoder_ != nullptr) (void)Embed("a few words");
}

}  // namespace kvr::engine
