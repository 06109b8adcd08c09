#include "kvr/record/holm.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace kvr::record {

std::optional<double> PValue(const Estimate& estimate) {
  if (!(estimate.df > 0)) return std::nullopt;
  if (estimate.standard_error == 0) return estimate.mean == 0 ? 1 : 0;
  return 2 * StudentCdf(-std::abs(estimate.mean) / estimate.standard_error, estimate.df);
}

double DetectableLogRatio(const Estimate& estimate, double level, double least) {
  constexpr double kNormal80 = 0.8416212335729143;  // its quantile 0.8
  const double error = estimate.standard_error, df = estimate.df;
  const double critical = StudentQuantile(1 - level / 2, df);
  const double significant =
      critical * (1 - 1 / (4 * df)) + kNormal80 * std::sqrt(1 + critical * critical / (2 * df));
  return std::max(significant * error, least + StudentQuantile(0.8, df) * error);
}

std::vector<double> HolmAdjusted(std::span<const double> p_values) {
  std::vector<std::size_t> order(p_values.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](auto a, auto b) { return p_values[a] < p_values[b]; });
  std::vector<double> adjusted(p_values.size());
  double greatest = 0;
  for (std::size_t rank = 0; rank < order.size(); ++rank) {
    const auto hypotheses_left = static_cast<double>(order.size() - rank);
    greatest = std::max(greatest, std::min(1.0, hypotheses_left * p_values[order[rank]]));
    adjusted[order[rank]] = greatest;
  }
  return adjusted;
}

}  // namespace kvr::record
