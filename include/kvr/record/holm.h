// Several tests at once, and what a test could have found (docs/statistics.md).
//
// Thread safety: pure functions. Errors: none.
#pragma once

#include <span>
#include <vector>

#include "kvr/record/statistics.h"

namespace kvr::record {

// The p-values, in their order, so adjusted that those at or below a level can all be believed: if
// no effect is real, one or more of them are in a share `level` of all runs at most, however the
// tests depend on one another (Holm, "A simple sequentially rejective multiple test procedure",
// Scandinavian Journal of Statistics 6 (1979)). Cost: a sorted copy.
[[nodiscard]] std::vector<double> HolmAdjusted(std::span<const double> p_values);

// How often a mean of log ratios would be as far from 0 as this one, either way, if its truth were
// 0: Student's t. REQUIRES: estimate.df > 0.
[[nodiscard]] double TwoSidedP(const Estimate& estimate);

// The true mean of log ratios that a two-sided test at `level` finds in 80 of 100 samples like the
// estimate's, where it counts only beyond `least`. By the normal approximation of the noncentral t
// (Abramowitz and Stegun, 26.7.10): of few clusters the standard error is itself uncertain.
// REQUIRES: estimate.df > 0.
[[nodiscard]] double DetectableLogRatio(const Estimate& estimate, double level, double least);

}  // namespace kvr::record
