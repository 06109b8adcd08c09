// How well a run's mean speed-up is known as far as repetitions go, by which a sweep decides
// whether one more round is worth its time (docs/statistics.md, "How many repetitions").
//
// Thread safety: pure functions. Errors: none.
#pragma once

#include <optional>
#include <span>
#include <vector>

namespace kvr::record {

// The width of the 95 % interval that the noise among repetitions leaves of the geometric mean
// speed-up, these prompts held fixed: high over low, less 1. `log_speedups` has, for each prompt,
// the log of baseline over recycled time in each round.
//
// A prompt's variance among rounds is taken about its own mean, so that it says nothing of how
// prompts differ, and nothing of the speed-up itself. It counts pi / 2 times, as the report takes
// medians over repetitions, whose variance is at most that many times a mean's for normal noise.
// Degrees of freedom are Satterthwaite's over prompts. Nothing where no prompt has two rounds.
[[nodiscard]] std::optional<double> RepetitionWidth(
    std::span<const std::vector<double>> log_speedups);

}  // namespace kvr::record
