// Statistics of small samples of times and ratios (docs/statistics.md). Too few samples give
// nothing, never 0.
//
// Thread safety: pure functions.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>

namespace kvr::record {

// The value below which a share `q` (0 to 1) of the sample lies, between two order statistics by
// linear interpolation at (n - 1) q: type 7 of Hyndman and Fan, "Sample Quantiles in Statistical
// Packages", The American Statistician 50 (1996), the default of R and NumPy. Nothing for an empty
// sample. Cost: a sorted copy.
[[nodiscard]] std::optional<double> Quantile(std::span<const double> sample, double q);

[[nodiscard]] std::optional<double> Median(std::span<const double> sample);

// Quantile `q` (0.5 or more), of a sample that has a value of its own for it: where it would lie
// between the two largest, it tells of these alone. Nothing for fewer than 1 / (1 - q) + 1 values:
// 3 for the median, 11, 21 and 101 for 0.9, 0.95 and 0.99.
[[nodiscard]] std::optional<double> Percentile(std::span<const double> sample, double q);

[[nodiscard]] std::optional<double> Mean(std::span<const double> sample);

// exp(mean(log x)): the mean that suits ratios, as that of x and of 1/x are each other's
// inverse (Fleming and Wallace, "How not to lie with statistics", CACM 29 (1986)). Nothing for an
// empty sample or one with a value that is not above 0.
[[nodiscard]] std::optional<double> GeometricMean(std::span<const double> sample);

// Student's t with `df` > 0 degrees of freedom, whole or not: the share below `t`, and the value
// below which a share `p` (above 0, below 1) lies.
[[nodiscard]] double StudentCdf(double t, double df);
[[nodiscard]] double StudentQuantile(double p, double df);

struct Interval {
  double low = 0;
  double high = 0;
};

// The 95 % interval of the mean of `count` independent values between 0 and 1, of which `mean` was
// seen: Wilson's score interval ("Probable inference, the law of succession, and statistical
// inference", JASA 22 (1927)), made for shares of yes and no, of which values in between have no
// more variance. It covers the truth in about 95 of 100 samples, in fewer where that is all but 0
// or 1. Nothing for none.
[[nodiscard]] std::optional<Interval> ShareInterval(double mean, std::size_t count);

// One prompt's ratio of medians over repetitions.
struct Observation {
  std::string stratum;  // its group
  std::string cluster;  // prompts that depend on one another have the same
  double log_ratio = 0;
};

// The fewest clusters that get an interval: of two, Student's t at 95 % is above 12, and says
// nothing.
inline constexpr std::size_t kFewestClusters = 3;

// A mean of log ratios over prompts, and how well it is known.
struct Estimate {
  double mean = 0;
  std::size_t prompts = 0, clusters = 0;
  double standard_error = 0;
  double df = 0;  // degrees of freedom; 0: too few clusters for an interval

  [[nodiscard]] double ratio() const;  // exp(mean)
  // The two-sided interval at `level`, of log ratios. Nothing where df is 0.
  [[nodiscard]] std::optional<Interval> LogInterval(double level) const;
  // The same of ratios.
  [[nodiscard]] std::optional<Interval> RatioInterval(double level = 0.95) const;
};

// The mean over prompts, strata in proportion to their prompts. Its variance is that between
// clusters within strata, by leaving out each cluster in turn (jackknife; for clusters of one size
// it is the textbook's variance of a stratified mean: Cochran, "Sampling Techniques", 1977, chapter
// 5); degrees of freedom by Satterthwaite ("An approximate distribution of estimates of variance
// components", Biometrics 2 (1946)), fewer where a few clusters hold most prompts. Strata of one
// cluster are pooled into one; a single one joins the stratum with fewest clusters. That takes
// differences between these strata as noise: the interval grows, never shrinks. Nothing for no
// observation.
[[nodiscard]] std::optional<Estimate> StratifiedMean(std::span<const Observation> observations);

enum class Verdict { kEquivalent, kDiffers, kUndecided };

struct Equivalence {
  Verdict verdict = Verdict::kUndecided;
  Interval interval;      // 90 %, of ratios
  double detectable = 0;  // relative difference that the test of difference sees in 80 of 100 runs
  double power_at_5 = 0;  // how often it sees a difference of 5 %
};

// Whether two arms take the same time, at a level of 5 % for either error. Equivalent: two
// one-sided tests (Schuirmann, Journal of Pharmacokinetics and Biopharmaceutics 15 (1987)), which
// is the 90 % interval of log ratios inside log(1 + `margin`) on both sides. Else differs: the 95 %
// interval excludes a ratio of 1. Else undecided. Nothing without an interval.
[[nodiscard]] std::optional<Equivalence> TestEquivalence(const Estimate& estimate, double margin);

}  // namespace kvr::record
