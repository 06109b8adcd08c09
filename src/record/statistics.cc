#include "kvr/record/statistics.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

namespace kvr::record {
namespace {

// The continued fraction of the regularized incomplete beta function, by Lentz's method
// (Abramowitz and Stegun, 26.5.8).
double BetaFraction(double a, double b, double x) {
  constexpr double kTiny = 1e-300;
  const auto away_from_zero = [](double value) { return std::abs(value) < kTiny ? kTiny : value; };
  double c = 1;
  double d = 1 / away_from_zero(1 - (a + b) * x / (a + 1));
  double fraction = d;
  for (int i = 1; i <= 500; ++i) {
    const double m = i;
    for (const double term : {m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
                              -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))}) {
      d = 1 / away_from_zero(1 + term * d);
      c = away_from_zero(1 + term / c);
      fraction *= c * d;
    }
    if (std::abs(c * d - 1) < 1e-15) break;
  }
  return fraction;
}

// The regularized incomplete beta function I_x(a, b).
double IncompleteBeta(double a, double b, double x) {
  if (x <= 0) return 0;
  if (x >= 1) return 1;
  const double front = std::exp(std::lgamma(a + b) - std::lgamma(a) - std::lgamma(b) +
                                a * std::log(x) + b * std::log1p(-x));
  if (x < (a + 1) / (a + b + 2)) return front * BetaFraction(a, b, x) / a;
  return 1 - front * BetaFraction(b, a, 1 - x) / b;
}

// The prompts of one stratum by cluster: how many, and the sum of their log ratios.
struct Sum {
  double prompts = 0, total = 0;
};
using Stratum = std::map<std::string, Sum>;

// Joins strata of one cluster as StratifiedMean() says. Clusters stay apart by their stratum's
// name.
std::vector<Stratum> Pooled(const std::map<std::string, Stratum>& strata) {
  std::vector<Stratum> result;
  Stratum single;
  for (const auto& [name, stratum] : strata) {
    if (stratum.size() > 1) {
      result.push_back(stratum);
    } else {
      single.emplace(name, stratum.begin()->second);
    }
  }
  if (single.empty()) return result;
  if (single.size() == 1 && !result.empty()) {
    auto fewest =
        std::min_element(result.begin(), result.end(),
                         [](const Stratum& a, const Stratum& b) { return a.size() < b.size(); });
    fewest->emplace("\n" + single.begin()->first, single.begin()->second);
  } else {
    result.push_back(std::move(single));
  }
  return result;
}

// The jackknife's variance of the stratum's sum of log ratios, and its degrees of freedom.
std::pair<double, double> VarianceOfSum(const Stratum& stratum) {
  Sum all;
  for (const auto& [name, sum] : stratum) {
    all.prompts += sum.prompts;
    all.total += sum.total;
  }
  const double m = static_cast<double>(stratum.size());
  double variance = 0, squares = 0;
  for (const auto& [name, sum] : stratum) {
    // How far the mean moves when the cluster is left out.
    const double moved = (sum.total - sum.prompts * all.total / all.prompts) /
                         (all.prompts - sum.prompts) * all.prompts;
    variance += (m - 1) / m * moved * moved;
    squares += sum.prompts * sum.prompts;
  }
  // As many clusters of one size as would spread the prompts as much.
  const double effective = all.prompts * all.prompts / squares;
  return {variance, std::max(effective - 1, 1.0)};
}

}  // namespace

std::optional<double> Quantile(std::span<const double> sample, double q) {
  if (sample.empty()) return std::nullopt;
  std::vector<double> sorted(sample.begin(), sample.end());
  std::sort(sorted.begin(), sorted.end());
  const double at = static_cast<double>(sorted.size() - 1) * std::clamp(q, 0.0, 1.0);
  const std::size_t below = static_cast<std::size_t>(at);
  const std::size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (at - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

std::optional<double> Median(std::span<const double> sample) { return Quantile(sample, 0.5); }

std::optional<double> Percentile(std::span<const double> sample, double q) {
  constexpr double kRounding = 1e-9;  // 1 - 0.9 is below 0.1
  if (static_cast<double>(sample.size()) - 1 < (1 - kRounding) / (1 - q)) return std::nullopt;
  return Quantile(sample, q);
}

std::optional<double> Mean(std::span<const double> sample) {
  if (sample.empty()) return std::nullopt;
  return std::accumulate(sample.begin(), sample.end(), 0.0) / static_cast<double>(sample.size());
}

std::optional<double> GeometricMean(std::span<const double> sample) {
  if (sample.empty()) return std::nullopt;
  double sum = 0;
  for (const double value : sample) {
    if (!(value > 0)) return std::nullopt;
    sum += std::log(value);
  }
  return std::exp(sum / static_cast<double>(sample.size()));
}

std::optional<Interval> ShareInterval(double mean, std::size_t count) {
  if (count == 0) return std::nullopt;
  constexpr double kZ = 1.959963984540054;  // the normal distribution's quantile 0.975
  const double n = static_cast<double>(count), shrink = 1 + kZ * kZ / n;
  const double centre = (mean + kZ * kZ / (2 * n)) / shrink;
  const double half = kZ / shrink * std::sqrt(mean * (1 - mean) / n + kZ * kZ / (4 * n * n));
  // Rounding must not part the interval from its mean.
  return Interval{std::min(mean, std::max(0.0, centre - half)),
                  std::max(mean, std::min(1.0, centre + half))};
}

double StudentCdf(double t, double df) {
  const double tail = IncompleteBeta(df / 2, 0.5, df / (df + t * t)) / 2;
  return t > 0 ? 1 - tail : tail;
}

double StudentQuantile(double p, double df) {
  if (p < 0.5) return -StudentQuantile(1 - p, df);
  double low = 0, high = 1;
  while (StudentCdf(high, df) < p && high < 1e12) high *= 2;
  for (int i = 0; i < 100 && low < high; ++i) {
    const double middle = (low + high) / 2;
    (StudentCdf(middle, df) < p ? low : high) = middle;
  }
  return (low + high) / 2;
}

double Estimate::ratio() const { return std::exp(mean); }

std::optional<Interval> Estimate::LogInterval(double level) const {
  if (!(df > 0)) return std::nullopt;
  const double half = StudentQuantile((1 + level) / 2, df) * standard_error;
  return Interval{mean - half, mean + half};
}

std::optional<Interval> Estimate::RatioInterval(double level) const {
  const std::optional<Interval> logs = LogInterval(level);
  if (!logs) return std::nullopt;
  return Interval{std::exp(logs->low), std::exp(logs->high)};
}

std::optional<Estimate> StratifiedMean(std::span<const Observation> observations) {
  if (observations.empty()) return std::nullopt;
  std::map<std::string, Stratum> strata;
  Estimate estimate;
  for (const Observation& one : observations) {
    Sum& sum = strata[one.stratum][one.cluster];
    sum.prompts += 1;
    sum.total += one.log_ratio;
    estimate.mean += one.log_ratio;
  }
  const double prompts = static_cast<double>(observations.size());
  estimate.prompts = observations.size();
  estimate.mean /= prompts;
  double variance = 0, spread = 0, most = 0;
  for (const Stratum& stratum : Pooled(strata)) {
    estimate.clusters += stratum.size();
    if (stratum.size() < 2) continue;
    const auto [own, df] = VarianceOfSum(stratum);
    variance += own;
    spread += own * own / df;
    most += df;
  }
  if (estimate.clusters < kFewestClusters) return estimate;
  estimate.standard_error = std::sqrt(variance) / prompts;
  estimate.df = spread > 0 ? variance * variance / spread : most;
  return estimate;
}

std::optional<Equivalence> TestEquivalence(const Estimate& estimate, double margin) {
  const std::optional<Interval> inner = estimate.LogInterval(0.90);
  const std::optional<Interval> outer = estimate.LogInterval(0.95);
  if (!inner || !outer) return std::nullopt;
  Equivalence result;
  result.interval = {std::exp(inner->low), std::exp(inner->high)};
  const double limit = std::log1p(margin);
  if (inner->low > -limit && inner->high < limit) {
    result.verdict = Verdict::kEquivalent;
  } else if (outer->low > 0 || outer->high < 0) {
    result.verdict = Verdict::kDiffers;
  }
  const double df = estimate.df, critical = StudentQuantile(0.975, df);
  result.detectable = std::expm1((critical + StudentQuantile(0.8, df)) * estimate.standard_error);
  // Student's t, moved by the effect, in place of the noncentral one.
  const double moved = estimate.standard_error > 0 ? std::log(1.05) / estimate.standard_error : 1e9;
  result.power_at_5 = StudentCdf(moved - critical, df) + StudentCdf(-moved - critical, df);
  return result;
}

}  // namespace kvr::record
