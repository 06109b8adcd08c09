#include "kvr/model/machine.h"

#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <torch/version.h>

#include <fstream>
#include <string_view>

#include "kernels/kernels.h"

namespace kvr::model {

namespace {

// libtorch's, and tiles, which it does not name.
std::string InstructionSet() {
  const kernels::Kernels* const ours = kernels::Best();
  const bool tiles = ours != nullptr && std::string_view(ours->name).starts_with("amx");
  return at::get_cpu_capability() + (tiles ? "+AMX" : "");
}

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
          .instruction_set = InstructionSet(),
          .threads = at::get_num_threads(),
          .libtorch_version = TORCH_VERSION};
}

}  // namespace kvr::model
