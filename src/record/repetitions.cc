#include "kvr/record/repetitions.h"

#include <cmath>
#include <numbers>

#include "kvr/record/statistics.h"

namespace kvr::record {

std::optional<double> RepetitionWidth(std::span<const std::vector<double>> log_speedups) {
  double prompts = 0, variance = 0, spread = 0, most = 0;
  for (const std::vector<double>& rounds : log_speedups) {
    if (rounds.size() < 2) continue;
    const double n = static_cast<double>(rounds.size()), mean = Mean(rounds).value();
    double squares = 0;
    for (const double value : rounds) squares += (value - mean) * (value - mean);
    const double of_median = std::numbers::pi / 2 * squares / (n - 1) / n;
    prompts += 1;
    variance += of_median;
    spread += of_median * of_median / (n - 1);
    most += n - 1;
  }
  if (prompts == 0) return std::nullopt;
  const double df = spread > 0 ? variance * variance / spread : most;
  return std::expm1(2 * StudentQuantile(0.975, df) * std::sqrt(variance) / prompts);
}

}  // namespace kvr::record
