#include "kvr/model/runtime.h"

#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/csrc/jit/runtime/profiling_graph_executor_impl.h>
#include <torch/script.h>
#include <torch/version.h>

#include <fstream>
#include <set>
#include <thread>

#include "kernels/kernels.h"
#include "torch_call.h"

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

// Distinct (package, core) pairs; hyper-threads of one core share its arithmetic units.
int PhysicalCores() {
  std::ifstream file("/proc/cpuinfo");
  std::set<std::pair<std::string, std::string>> cores;
  std::string package;
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("physical id", 0) == 0) package = line;
    if (line.rfind("core id", 0) == 0) cores.emplace(package, line);
  }
  const int present = static_cast<int>(std::thread::hardware_concurrency());
  const int physical = static_cast<int>(cores.size());
  return physical > 0 && physical <= present ? physical : std::max(1, present);
}

}  // namespace

void SetUpRuntime(int threads) {
  at::set_num_threads(threads > 0 ? threads : PhysicalCores());  // also mkl_set_dynamic(false)
  torch::jit::getProfilingMode() = false;
  torch::jit::getExecutorMode() = false;
  torch::jit::setGraphExecutorOptimize(false);
}

Runtime DescribeRuntime() {
  return {.cpu_model = CpuModel(),
          .instruction_set = at::get_cpu_capability(),
          .threads = at::get_num_threads(),
          .libtorch_version = TORCH_VERSION};
}

std::string KernelsFor(const ArchiveInfo& info) {
  const kernels::Kernels* kernels = kernels::Best();
  // Whole vectors only.
  const bool fits = info.head_dim % 16 == 0 && info.width % 16 == 0;
  return kernels != nullptr && fits ? kernels->name : kTorchKernels;
}

torch::jit::Module LoadModule(const std::string& path) {
  return TorchCall("cannot load " + path, Error::Kind::kCorrupt, [&] {
    torch::jit::Module module = torch::jit::load(path, at::kCPU);
    module.eval();
    return module;
  });
}

}  // namespace kvr::model
