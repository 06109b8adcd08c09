// How long a history may be, and its next turn still starts within a budget of time: read off
// measured times by length, never beyond the lengths that were measured.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "samples.h"

namespace kvr::report {

// Times to the first token in ms, by length of history in tokens and by cluster.
using TimesByLength = std::map<std::int64_t, std::map<std::string, Samples>>;

// A curve that never falls, by lengths in rising order.
struct Curve {
  std::vector<double> lengths, ms;
};

// The 95th percentile at each length, made never to fall by pooling neighbours that do (the pool
// adjacent violators of Ayer et al., "An empirical distribution function for sampling with
// incomplete information", Annals of Mathematical Statistics 26 (1955)), each weighing its cells.
// Lengths of fewer than 21 cells, which have no such percentile, are left out.
[[nodiscard]] Curve CurveOf(const TimesByLength& times);

struct Reach {
  enum class Bound {
    kNone,      // the curve passes the budget between two lengths
    kShortest,  // already the shortest length takes more: `tokens` is 0
    kLongest    // even the longest takes no more: `tokens` is that
  } bound = Bound::kNone;
  double tokens = 0;  // by linear interpolation
};

// Nothing for a curve of no point.
[[nodiscard]] std::optional<Reach> LongestWithin(const Curve& curve, double budget_ms);

// The reach, and its interval: where the curve passes the budget when each point is moved up or
// down by Student's t at 99 % times its standard error, in logs, by leaving out each cluster in
// turn. A percentile near the end of few samples is biased and badly known, so that at 95 % it
// would cover the truth in 82 to 87 of 100 simulated runs; as it is, in 90 to 95. The interval is
// nothing where a length has fewer than kFewestClusters clusters.
struct UsableContext {
  Reach reach;
  std::optional<Reach> low, high;
};
[[nodiscard]] std::optional<UsableContext> UsableWithin(const TimesByLength& times,
                                                        double budget_ms);

// The config's "ttft_budgets_ms", or from 50 ms to 5 s.
[[nodiscard]] std::vector<double> TtftBudgets(const Run& run);

}  // namespace kvr::report
