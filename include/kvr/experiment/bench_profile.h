// kvr bench --profile: where the time of prefill, suffix prefill and decoding goes.
//
// Thread safety, errors and cost: as bench.h.
#pragma once

#include "kvr/experiment/bench.h"
#include "kvr/model/profile.h"

namespace kvr::experiment {

// One piece of work: times and operations are means over the repetitions, for a whole run of it.
struct BenchProfile {
  std::string what;                            // "prefill of 512"
  double ms = 0;                               // by the clock, all of it
  std::vector<model::OperatorTime> operators;  // in the order of their first calls
  [[nodiscard]] double OutsideMs() const;      // of `ms`, that no operator took
};

struct BenchProfileResult {
  BenchSetting setting;
  std::vector<BenchProfile> profiles;
};

// Prefill of 512 and 900 tokens in the block schedule, 8 tokens behind 892, one step of decoding
// behind 16 and 900; what the context has no room for is left out. Throws kInvalidInput where
// torch's kernels compute.
[[nodiscard]] BenchProfileResult RunBenchProfile(engine::Generator& generator,
                                                 const BenchOptions& options);

// {"environment", "model", "repetitions", "profiles": [{"what", "ms", "outside_ms", "operators":
// [{"name", "calls", "ms", "gflop_per_s"}]}]}; gflop_per_s is null where that is no measure.
[[nodiscard]] Json ToJson(const BenchProfileResult& result);

}  // namespace kvr::experiment
