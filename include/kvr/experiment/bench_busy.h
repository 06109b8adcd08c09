// kvr bench --busy: what is left of the speed when other processes want the cores too.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "kvr/base/json.h"
#include "kvr/engine/generator.h"

namespace kvr::experiment {

struct BenchBusyOptions {
  std::vector<int> loops;         // of each, how many processes that do nothing but compute
  std::filesystem::path scratch;  // a folder for the cache that is measured; removed by the caller
  int repetitions = 5;
  std::function<void(const std::string& what)> progress;
};

// Of `threads` threads beside `loops` busy ones on `cores` cores, what share of their quiet rate is
// theirs when the system gives each the same: cores / (threads + loops), 1 at most.
[[nodiscard]] double FairShare(int threads, int loops, int cores);

// Prefill, decode, restore, recycled TTFT and embedding, each quiet and beside each number of loops
// in turn, so that what changes on the machine meanwhile meets all alike. The result:
// {"environment", "model", "repetitions", "cores", "rows": [{"phase", "what", "unit", "loops",
// "quiet", "measured", "share", "shares", "fair_share"}]}: `share` is the median of `shares`, which
// has one for each repetition, of the quiet rate of that same repetition; 1 is full speed, whether
// more of the unit is better or less. Throws kIo when a loop cannot be started.
[[nodiscard]] Json RunBenchBusy(engine::Generator& generator, const BenchBusyOptions& options);

}  // namespace kvr::experiment
