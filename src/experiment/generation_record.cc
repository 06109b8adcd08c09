#include "kvr/experiment/generation_record.h"

namespace kvr::experiment {

void Describe(const engine::Generator& generator, const engine::Request& request,
              const engine::Generation& generation, record::Cell* cell) {
  cell->outcome = engine::ToString(generation.outcome);
  if (generation.limited_by) cell->limited_by = cache::ToString(*generation.limited_by);
  cell->exact_claimed = generation.exact_claimed;
  cell->prompt_tokens = static_cast<std::int64_t>(request.tokens.size());
  cell->reuse_depth = generation.reuse_depth;
  cell->similarity = generation.similarity;
  if (generation.entry) cell->entry = Hex(*generation.entry);
  if (generation.resident_fraction) {
    cell->page_cache = *generation.resident_fraction > 0.5 ? "warm" : "cold";
  }
  const engine::Work& work = generation.work;
  cell->work = {.prefilled_tokens = work.prefilled_tokens,
                .forward_passes = work.forward_passes,
                .restored_blocks = work.restored_blocks,
                .compared_entries = work.compared_entries,
                .opened_files = work.opened_files};
  const engine::Timings& timings = generation.timings;
  if (request.arm == engine::Arm::kRecycled && request.reuse.policy != engine::Policy::kOff) {
    if (request.reuse.policy.by_similarity) cell->embed_ms = timings.embed_ms;
    cell->lookup_ms = timings.lookup_ms;
    if (timings.restore_ms > 0) cell->restore_ms = timings.restore_ms;
    cell->restored_bytes = static_cast<std::int64_t>(generation.restored_bytes);
  }
  cell->prefill_ms = timings.prefill_ms;
  cell->ttft_ms = timings.ttft_ms;
  cell->decode_ms = timings.decode_ms;
  cell->total_ms = timings.total_ms;
  cell->new_tokens = static_cast<std::int64_t>(generation.tokens.size());
  cell->tokens = generation.tokens;
  cell->text = generator.Text(generation.tokens);
}

}  // namespace kvr::experiment
