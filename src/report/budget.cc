#include "budget.h"

namespace kvr::report {
namespace {

Samples AllOf(const std::map<std::string, Samples>& clusters) {
  Samples all;
  for (const auto& [cluster, samples] : clusters) {
    all.insert(all.end(), samples.begin(), samples.end());
  }
  return all;
}

// How well the 95th percentile of the logs is known, by leaving out each cluster in turn
// (jackknife). A percentile jumps from one cell to the next when a cluster goes, which the
// jackknife can't take; so it is taken of the mean plus 1.645 standard deviations, which moves as
// the percentile does.
double LogError(const std::map<std::string, Samples>& clusters) {
  Samples without;
  for (const auto& [left_out, unused] : clusters) {
    double sum = 0, squares = 0, count = 0;
    for (const auto& [cluster, samples] : clusters) {
      if (cluster == left_out) continue;
      for (const double ms : samples) {
        sum += std::log(ms);
        squares += std::log(ms) * std::log(ms);
        ++count;
      }
    }
    const double mean = sum / count;
    without.push_back(mean + 1.645 * std::sqrt(std::max(0.0, squares / count - mean * mean)));
  }
  const double center = *Mean(without), clusters_count = static_cast<double>(without.size());
  double squares = 0;
  for (const double one : without) squares += (one - center) * (one - center);
  return std::sqrt(squares * (clusters_count - 1) / clusters_count);
}

// The curve with each point moved so many standard errors up.
Curve MovedCurve(const TimesByLength& times, double level_of_t) {
  TimesByLength moved = times;
  for (auto& [length, clusters] : moved) {
    const double df = static_cast<double>(clusters.size()) - 1;
    const double factor = std::exp(StudentQuantile(level_of_t, df) * LogError(clusters));
    for (auto& [cluster, samples] : clusters) {
      for (double& ms : samples) ms *= factor;
    }
  }
  return CurveOf(moved);
}

}  // namespace

Curve CurveOf(const TimesByLength& times) {
  struct Pool {
    double ms, weight;
    std::size_t points;
  };
  Curve curve;
  std::vector<Pool> pools;
  for (const auto& [length, clusters] : times) {
    const Samples samples = AllOf(clusters);
    const Number p95 = Percentile(samples, 0.95);
    if (!p95) continue;
    curve.lengths.push_back(static_cast<double>(length));
    pools.push_back({*p95, static_cast<double>(samples.size()), 1});
    while (pools.size() > 1 && pools[pools.size() - 2].ms > pools.back().ms) {
      const Pool last = pools.back();
      pools.pop_back();
      Pool& before = pools.back();
      before.ms =
          (before.ms * before.weight + last.ms * last.weight) / (before.weight + last.weight);
      before.weight += last.weight;
      before.points += last.points;
    }
  }
  for (const Pool& pool : pools) curve.ms.insert(curve.ms.end(), pool.points, pool.ms);
  return curve;
}

std::optional<Reach> LongestWithin(const Curve& curve, double budget_ms) {
  if (curve.ms.empty()) return std::nullopt;
  if (curve.ms.back() <= budget_ms) return Reach{Reach::Bound::kLongest, curve.lengths.back()};
  if (curve.ms.front() > budget_ms) return Reach{Reach::Bound::kShortest, 0};
  std::size_t above = 1;
  while (curve.ms[above] <= budget_ms) ++above;
  const double share = (budget_ms - curve.ms[above - 1]) / (curve.ms[above] - curve.ms[above - 1]);
  const double from = curve.lengths[above - 1], to = curve.lengths[above];
  return Reach{Reach::Bound::kNone, from + share * (to - from)};
}

std::optional<UsableContext> UsableWithin(const TimesByLength& times, double budget_ms) {
  const std::optional<Reach> reach = LongestWithin(CurveOf(times), budget_ms);
  if (!reach) return std::nullopt;
  UsableContext usable{*reach, {}, {}};
  for (const auto& [length, clusters] : times) {
    if (clusters.size() < kFewestClusters) return usable;
  }
  usable.low = LongestWithin(MovedCurve(times, 0.995), budget_ms);
  usable.high = LongestWithin(MovedCurve(times, 0.005), budget_ms);
  return usable;
}

std::vector<double> TtftBudgets(const Run& run) {
  std::vector<double> budgets;
  const Json given = run.config.value("ttft_budgets_ms", Json());
  for (const Json& budget : given.is_array() ? given : Json::array({given})) {
    if (budget.is_number()) budgets.push_back(budget.get<double>());
  }
  if (budgets.empty()) budgets = {50, 100, 200, 500, 1000, 2000, 5000};
  std::sort(budgets.begin(), budgets.end());
  return budgets;
}

}  // namespace kvr::report
