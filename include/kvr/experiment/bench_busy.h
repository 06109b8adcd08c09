// kvr bench --busy: what is left of the speed when other processes want the cores too.
//
// Thread safety: none; it starts processes and measures all cores. Errors: as RunBench; kIo when a
// loop cannot be started. Cost: for each repetition, a few seconds quiet and beside each number of
// loops.
#pragma once

#include <string>
#include <vector>

#include "kvr/experiment/bench.h"

namespace kvr::experiment {

struct BusyRow {
  std::string phase, what, unit;
  int loops = 0;                   // busy processes beside it
  double quiet = 0, measured = 0;  // medians, in `unit`
  double share = 0;                // the median of `shares`
  // One for each repetition, of the quiet rate of that same repetition: 1 is full speed, whether
  // more of the unit is better or less.
  std::vector<double> shares;
  double fair_share = 0;
};

struct BusyResult {
  BenchSetting setting;
  int cores = 0;  // that this process may use
  std::vector<BusyRow> rows;
};

// Of `threads` threads beside `loops` busy ones on `cores` cores, what share of their quiet rate is
// theirs when the system gives each the same: cores / (threads + loops), 1 at most.
[[nodiscard]] double FairShare(int threads, int loops, int cores);

// Prefill, decode, recycled TTFT, restore and embedding, each quiet and beside each number of
// `loops`, processes that do nothing but compute, in turn, so that what changes on the machine
// meanwhile meets all alike. No loop is left, whether it returns or throws.
[[nodiscard]] BusyResult RunBenchBusy(engine::Generator& generator, const std::vector<int>& loops,
                                      const BenchOptions& options);

// {"environment", "model", "repetitions", "cores", "rows": [{"phase", "what", "unit", "loops",
// "quiet", "measured", "share", "shares", "fair_share"}]}.
[[nodiscard]] Json ToJson(const BusyResult& result);

}  // namespace kvr::experiment
