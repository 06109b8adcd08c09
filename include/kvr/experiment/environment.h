// What a run records of the machine and the program.
#pragma once

#include "kvr/base/json.h"

namespace kvr::experiment {

// cpu_model, instruction_set, threads, libtorch_version, host, kernel, memory_bytes, load_average,
// commit, version, build_type. REQUIRES: model::SetUpRuntime was called.
[[nodiscard]] Json DescribeEnvironment();

}  // namespace kvr::experiment
