// Several tests at once: a table of many rows shows a difference at a level of 5 % in one row of
// twenty even where there is none. Adjusted p-values hold for all rows together.
//
// Thread safety: pure functions. Errors: none.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "kvr/record/statistics.h"

namespace kvr::record {

// How often an estimate so far from no difference (a ratio of 1) would come, on either side, where
// there is none: Student's t of its mean over its standard error. Below 0.05 exactly where the 95 %
// interval excludes 1. Nothing without an interval.
[[nodiscard]] std::optional<double> PValue(const Estimate& estimate);

// The true mean of log ratios that a two-sided test at `level` finds in 80 of 100 samples like the
// estimate's, where it counts only beyond `least`. By the normal approximation of the noncentral t
// (Abramowitz and Stegun, 26.7.10): of few clusters the standard error is itself uncertain.
// REQUIRES: estimate.df > 0.
[[nodiscard]] double DetectableLogRatio(const Estimate& estimate, double level, double least);

// Each p-value adjusted by Holm's step-down method ("A simple sequentially rejective multiple test
// procedure", Scandinavian Journal of Statistics 6 (1979)), in the order given: where the rows
// whose adjusted value is at most 0.05 are said to differ, one that does not is among them in 5 of
// 100 such tables at most, however the rows depend on one another. REQUIRES: values from 0 to 1.
// Cost: a sort.
[[nodiscard]] std::vector<double> HolmAdjusted(std::span<const double> p_values);

}  // namespace kvr::record
