#include <spdlog/fmt/fmt.h>

#include <algorithm>

#include "kvr/base/clock.h"
#include "kvr/base/error.h"
#include "kvr/base/interrupt.h"
#include "kvr/engine/generator.h"

namespace kvr::engine {

namespace {

// Picks the new tokens of one call and keeps them.
class NewTokens {
 public:
  NewTokens(const Request& request, int vocabulary, Generation* generation)
      : request_(request),
        sampler_(request.sampling),
        vocabulary_(static_cast<std::size_t>(vocabulary)),
        generation_(generation) {}

  Token Keep(std::vector<float>& logits) {
    const std::size_t at = generation_->tokens.size();
    // A network's vocabulary may be padded; what no tokenizer id stands for is never drawn.
    const auto drawable =
        std::span<const float>(logits).first(std::min(vocabulary_, logits.size()));
    const Token token = at < request_.forced.size() ? request_.forced[at] : sampler_.Pick(drawable);
    generation_->tokens.push_back(token);
    if (request_.keep_logits) generation_->logits.push_back(std::move(logits));
    return token;
  }

 private:
  const Request& request_;
  Sampler sampler_;
  const std::size_t vocabulary_;
  Generation* const generation_;
};

}  // namespace

int Generator::CheckedLimit(const Request& request) const {
  const std::size_t count = request.tokens.size();
  const int limit =
      request.forced.empty() ? request.max_new_tokens : static_cast<int>(request.forced.size());
  if (count == 0) throw InvalidInput("the prompt is empty: at least one token is needed");
  if (limit < 1) {
    throw InvalidInput(fmt::format("max_new_tokens: found {}, expected 1 or more", limit));
  }
  if (static_cast<std::int64_t>(count) + limit > info().context_tokens) {
    throw InvalidInput(fmt::format(
        "the prompt has {} tokens; with {} to generate it passes the context of {} tokens of {} "
        "(--truncate left cuts the prompt)",
        count, limit, info().context_tokens, info().name));
  }
  return limit;
}

std::size_t Generator::Recycle(const Request& request, Generation& generation) {
  const Policy& policy = request.reuse.policy;
  if (request.arm != Arm::kRecycled || policy.find == nullptr) return 0;
  if (request.view == nullptr || store(request.reuse.codec) == nullptr) {
    throw InvalidInput(
        fmt::format("no cache of codec {} is open", cache::ToString(request.reuse.codec)));
  }
  if (policy.by_similarity && encoder_ == nullptr) {
    throw InvalidInput(fmt::format("policy {} needs an encoder: give --encoder FILE", policy.name));
  }
  if (!request.reuse.match.whole_blocks) (void)probe();  // belongs on no clock

  generation.outcome = Outcome::kMiss;
  const cache::Query query{.tokens = request.tokens,
                           .text = request.text,
                           .match = request.reuse.match,
                           .minimum_depth = request.reuse.min_depth};
  Stopwatch watch;
  const cache::Plan plan = policy.find(*this, request, query, watch, generation);
  generation.timings.lookup_ms = watch.LapMs();
  generation.limited_by = plan.limited_by;
  generation.entry = plan.entry;
  generation.work.compared_entries = plan.compared;
  return plan.depth == 0 ? 0 : Restore(plan, request, generation);
}

std::size_t Generator::Restore(const cache::Plan& plan, const Request& request,
                               Generation& generation) {
  cache::Store& store = *this->store(request.reuse.codec);
  if (request.reuse.cold) store.DropFromPageCache(plan);

  Stopwatch watch;
  const cache::RestoreResult restored =
      store.Restore(plan, BufferView(), static_cast<int>(key_.threads));
  buffer_.Upload(0, static_cast<int>(restored.tokens));
  if (restored.tokens < plan.depth) {
    // A bad block leaves its positions unspecified; what attention masks out must be finite.
    buffer_.Clear(static_cast<int>(restored.tokens),
                  static_cast<int>(plan.CapacityNeeded() - restored.tokens));
  }
  generation.timings.restore_ms = watch.LapMs();
  generation.limited_by = restored.limited_by;
  generation.restored_bytes = restored.bytes;
  generation.work.restored_blocks = restored.blocks;
  generation.work.opened_files = restored.files;
  generation.resident_fraction = restored.resident_fraction;
  if (restored.tokens == 0) return 0;
  generation.outcome = Outcome::kHit;
  generation.reuse_depth = static_cast<int>(restored.tokens);
  if (request.reuse.policy.by_similarity) generation.similarity = plan.similarity;
  generation.exact_claimed =
      cache::IsExact(request.reuse.codec) &&
      (restored.tokens % static_cast<std::uint32_t>(model_.block_tokens()) == 0 || probe().exact);
  return restored.tokens;
}

std::size_t Generator::ExactTokens(const Request& request, const Generation& generation,
                                   std::size_t restored) const {
  if (generation.exact_claimed) return request.tokens.size();
  // Below an inexact restore only whole restored blocks are exact; below a lossy one, nothing.
  const std::size_t block = static_cast<std::size_t>(model_.block_tokens());
  return cache::IsExact(request.reuse.codec) ? restored / block * block : 0;
}

Generation Generator::Generate(const Request& request) {
  const int limit = CheckedLimit(request);
  Generation generation;
  NewTokens fresh(request, tokenizer_.vocab_size(), &generation);
  const std::size_t count = request.tokens.size();
  Reserve(count + static_cast<std::size_t>(limit));
  resident_.clear();

  (void)ChunkTokens();  // may probe, which belongs on no clock
  const std::size_t start = Recycle(request, generation);
  const auto ended = [&](Token token) {
    return request.forced.empty() && request.stop_at_eos &&
           std::find(info().eos_ids.begin(), info().eos_ids.end(), token) != info().eos_ids.end();
  };

  Timings& timings = generation.timings;
  generation.token_ms.reserve(static_cast<std::size_t>(limit));
  Stopwatch watch;
  std::vector<float> logits =
      Prefill(request.tokens, start, request.free_chunk_tokens, &generation.work);
  Token token = fresh.Keep(logits);
  timings.prefill_ms = watch.ElapsedMs();
  timings.ttft_ms = timings.embed_ms + timings.lookup_ms + timings.restore_ms + timings.prefill_ms;
  generation.token_ms.push_back(timings.ttft_ms);
  if (request.free_chunk_tokens == 0) {
    const std::size_t exact = ExactTokens(request, generation, start);
    resident_.assign(request.tokens.begin(),
                     request.tokens.begin() + static_cast<std::ptrdiff_t>(exact));
  }
  if (request.on_token) request.on_token(token);

  std::size_t past = count;
  while (!(generation.ended = ended(token)) && static_cast<int>(generation.tokens.size()) < limit) {
    ThrowIfInterrupted();
    Stopwatch step;
    logits = model_.Decode(token, static_cast<int>(past++), buffer_);
    ++generation.work.forward_passes;
    token = fresh.Keep(logits);
    timings.decode_ms += step.ElapsedMs();
    generation.token_ms.push_back(timings.ttft_ms + timings.decode_ms);
    if (request.on_token) request.on_token(token);
  }
  timings.total_ms = timings.ttft_ms + timings.decode_ms;
  return generation;
}

}  // namespace kvr::engine
