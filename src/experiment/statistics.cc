#include "kvr/experiment/statistics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

namespace kvr::experiment {
namespace {

// An unbiased draw from 0 to `bound` - 1: draws from the incomplete last stretch of `bound` values
// are thrown away.
std::size_t DrawIndex(std::mt19937_64& random, std::size_t bound) {
  const std::uint64_t n = bound;
  const std::uint64_t limit = std::numeric_limits<std::uint64_t>::max() / n * n;
  std::uint64_t draw = random();
  while (draw >= limit) draw = random();
  return static_cast<std::size_t>(draw % n);
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

std::optional<double> P95(std::span<const double> sample) {
  if (sample.size() < 2) return std::nullopt;
  return Quantile(sample, 0.95);
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

std::optional<Interval> BootstrapInterval(std::span<const double> clusters, Statistic statistic,
                                          std::uint64_t seed, int resamples) {
  if (clusters.size() < kFewestClusters || resamples < 1) return std::nullopt;
  std::mt19937_64 random(seed);
  std::vector<double> drawn(clusters.size());
  std::vector<double> results;
  results.reserve(static_cast<std::size_t>(resamples));
  for (int i = 0; i < resamples; ++i) {
    for (double& value : drawn) value = clusters[DrawIndex(random, clusters.size())];
    const std::optional<double> result = statistic(drawn);
    if (!result) return std::nullopt;
    results.push_back(*result);
  }
  return Interval{*Quantile(results, 0.025), *Quantile(results, 0.975)};
}

std::optional<double> NoiseFloor(std::span<const std::vector<double>> clusters, std::uint64_t seed,
                                 int resamples) {
  std::mt19937_64 random(seed);
  std::vector<double> differences, magnitudes;
  for (int i = 0; i < resamples; ++i) {
    differences.clear();
    for (const std::vector<double>& runs : clusters) {
      if (runs.size() < 2) continue;
      const std::size_t one = DrawIndex(random, runs.size());
      std::size_t other = DrawIndex(random, runs.size() - 1);
      if (other >= one) ++other;
      if (runs[other] > 0) differences.push_back(runs[one] / runs[other] - 1);
    }
    if (const std::optional<double> median = Median(differences)) {
      magnitudes.push_back(std::abs(*median));
    }
  }
  return Quantile(magnitudes, 0.95);
}

}  // namespace kvr::experiment
