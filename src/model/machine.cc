#include "kvr/model/machine.h"

#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <torch/version.h>

#include <fstream>

namespace kvr::model {

namespace {

// The value of the first "key : value" line in /proc/cpuinfo, or "unknown".
std::string CpuModel() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("model name", 0) == 0) return line.substr(line.find(':') + 2);
  }
  return "unknown";
}

}  // namespace

Runtime DescribeRuntime() {
  return {.cpu_model = CpuModel(),
          .instruction_set = at::get_cpu_capability(),
          .threads = at::get_num_threads(),
          .libtorch_version = TORCH_VERSION};
}

}  // namespace kvr::model
