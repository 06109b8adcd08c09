// Statistics of small samples of times and ratios. Too few samples give nothing, never 0.
//
// Thread safety: pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace kvr::experiment {

// The value below which a share `q` (0 to 1) of the sample lies, between two order statistics by
// linear interpolation at (n - 1) q: type 7 of Hyndman and Fan, "Sample Quantiles in Statistical
// Packages", The American Statistician 50 (1996), the default of R and NumPy. Nothing for an empty
// sample. Cost: a sorted copy.
[[nodiscard]] std::optional<double> Quantile(std::span<const double> sample, double q);

[[nodiscard]] std::optional<double> Median(std::span<const double> sample);

// Quantile 0.95, of two values or more: one value has no spread to speak of. Below 21 values it
// lies between the two largest.
[[nodiscard]] std::optional<double> P95(std::span<const double> sample);

[[nodiscard]] std::optional<double> Mean(std::span<const double> sample);

// exp(mean(log x)): the mean that suits ratios, as that of x and of 1/x are each other's
// inverse (Fleming and Wallace, "How not to lie with statistics", CACM 29 (1986)). Nothing for an
// empty sample or one with a value that is not above 0.
[[nodiscard]] std::optional<double> GeometricMean(std::span<const double> sample);

struct Interval {
  double low = 0;
  double high = 0;
};

// The fewest clusters that get an interval. The range from the least to the greatest of n values
// covers their median with probability 1 - 2^(1-n) at most: 94 % for five, 97 % for six. Below
// six no interval made from the values alone deserves to be called 95 %.
inline constexpr std::size_t kFewestClusters = 6;

using Statistic = std::optional<double> (*)(std::span<const double>);

// The 95 % percentile interval of `statistic` by bootstrap (Efron and Tibshirani, "An Introduction
// to the Bootstrap", 1993, section 13.3): quantiles 0.025 and 0.975 over `resamples` samples drawn
// with replacement.
//
// One value stands for one cluster: a prompt, with its repetitions already reduced to one ratio of
// medians. Whole prompts are drawn, because repetitions of one prompt are not independent of each
// other and drawing them would make the interval too narrow.
//
// Nothing for fewer than kFewestClusters values, or when `statistic` gives nothing for a resample.
// The same on every platform: std::mt19937_64 is fixed by the standard, and the index is drawn from
// it by rejection here, as std::uniform_int_distribution is not.
// Cost: `resamples` times that of `statistic`.
[[nodiscard]] std::optional<Interval> BootstrapInterval(std::span<const double> clusters,
                                                        Statistic statistic,
                                                        std::uint64_t seed = 20260131,
                                                        int resamples = 2000);

// The noise floor of a median of relative differences: how far it is from 0 in 95 of 100 cases when
// both arms are the same. `clusters` holds, for each prompt, times of runs of the same work. Each
// of `resamples` draws takes two runs of every prompt at random, one for either arm, and the median
// over prompts of their ratio less 1; the floor is quantile 0.95 of its magnitude. This is the
// randomization test's distribution under the null hypothesis (Efron and Tibshirani 1993, chapter
// 15), with single runs: medians over repetitions vary less.
//
// Prompts with fewer than two runs are left out; nothing when none is left. Cost: `resamples` times
// a median over the prompts.
[[nodiscard]] std::optional<double> NoiseFloor(std::span<const std::vector<double>> clusters,
                                               std::uint64_t seed = 20260131, int resamples = 2000);

}  // namespace kvr::experiment
