// The order of a sweep's cells, from its config and seed alone.
//
// A round is one repetition of all prompts, in seeded random order. Of each prompt the baseline,
// the same again (the control), the same sent through the recycled arm (the null variant) and each
// way of reuse run one after another, in seeded random order, each decoded to its mark.
//
// Thread safety: plain values and pure functions. Errors: none. Cost: a few numbers a cell.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kvr/engine/generator.h"
#include "kvr/experiment/config.h"
#include "kvr/record/cell.h"

namespace kvr::experiment {

// What one cell runs, apart from prompt and repetition.
struct CellPlan {
  engine::Arm arm = engine::Arm::kBaseline;
  bool free = false;  // prefill in free chunks; the schedule's otherwise
  bool control = false;
  bool goes_on = false;  // decodes a long prompt to the last mark
  engine::Reuse reuse;
};

struct Step {
  std::size_t prompt = 0;  // of config.test_prompts
  CellPlan plan;
};

// The one baseline, twice, the same work as a recycled arm that reuses nothing, and each reuse.
// `free`: the baseline's schedule.
[[nodiscard]] std::vector<CellPlan> PlansOf(const Config& config, bool free);

// All cells of one repetition, in the order in which they run.
[[nodiscard]] std::vector<Step> RoundOf(const Config& config, bool free, int round);

// What runs once, unmeasured, before the first round: all plans of the first few prompts.
[[nodiscard]] std::vector<Step> WarmUpOf(const Config& config, bool free);

// Whether each test prompt is decoded to the last mark: config.long_prompts of those outside the
// control groups, in turn from each group, drawn by the seed; all of them where the config says
// nothing.
[[nodiscard]] std::vector<bool> LongPrompts(const Config& config);

// Cells that the config makes of one prompt for one model, and of all.
[[nodiscard]] std::int64_t CellsPerPrompt(const Config& config);
[[nodiscard]] std::int64_t CellsPerModel(const Config& config);

// The plan's part of a cell's identity.
void Describe(const CellPlan& plan, record::Cell* cell);

}  // namespace kvr::experiment
