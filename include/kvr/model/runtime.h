// What the whole process shares of libtorch: threads, determinism, and what of the machine decides
// a result's last bit.
#pragma once

#include <string>

namespace kvr::model {

// Sets libtorch up: `threads` (0: the physical cores that this process may use, see base/cores.h; a
// warning if more than those), no dynamic MKL threads, no JIT profiling or fusion, so that the same
// piece always runs the same instructions. Call once, before any model is loaded.
void SetUpRuntime(int threads);

struct Runtime {
  std::string cpu_model;        // as /proc/cpuinfo names it
  std::string instruction_set;  // what libtorch's kernels use: "AVX512", "AVX2", "DEFAULT"
  int threads = 0;
  std::string libtorch_version;
};

[[nodiscard]] Runtime DescribeRuntime();

// "cpu", or for "cuda" and "cuda:N" the name with the device's own. Throws kInvalidInput for
// another name, or a device that is not there.
[[nodiscard]] std::string DescribeDevice(const std::string& device);

}  // namespace kvr::model
