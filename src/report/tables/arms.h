// The arms of a run, baselines among them, for tables that have a row of each.
#pragma once

#include <string>
#include <vector>

#include "../samples.h"

namespace kvr::report {

// Calls `row` with each arm that has cells of `prompts`, and these. A baseline is given as a
// variant of policy "baseline", its schedule in the place of the match rule and no codec.
template <typename F>
void ForEachArm(const Scope& scope, const std::vector<const PromptCells*>& prompts, F row) {
  const auto add = [&](const Variant& arm, const Cells& cells) {
    if (!cells.empty()) row(arm, cells);
  };
  Cells baseline, other;
  for (const PromptCells* prompt : prompts) {
    baseline.insert(baseline.end(), prompt->baseline.begin(), prompt->baseline.end());
    other.insert(other.end(), prompt->other_baseline.begin(), prompt->other_baseline.end());
  }
  const std::string schedule = scope.Schedule();
  add({.policy = "baseline", .match = schedule}, baseline);
  add({.policy = "baseline", .match = schedule == "free" ? "block" : "free"}, other);
  for (const Variant& variant : scope.NullAndVariants()) {
    add(variant, AllRecycledBy(prompts, variant));
  }
}

}  // namespace kvr::report
