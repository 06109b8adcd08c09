#include "kvr/model/runtime.h"

#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <dlfcn.h>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/csrc/jit/runtime/profiling_graph_executor_impl.h>
#include <torch/cuda.h>
#include <torch/script.h>
#include <torch/version.h>

#include <array>
#include <charconv>
#include <fstream>
#include <vector>

#include "archive_image.h"
#include "kernels/kernels.h"
#include "kvr/base/cores.h"
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

// From the driver itself: libtorch names devices only to those who build with CUDA's headers.
std::string CudaName(int index) {
  std::array<char, 256> name = {};
  void* const driver = ::dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  const auto call = [&](const char* symbol) {
    return driver == nullptr ? nullptr : ::dlsym(driver, symbol);
  };
  const auto init = reinterpret_cast<int (*)(unsigned)>(call("cuInit"));
  const auto get = reinterpret_cast<int (*)(int*, int)>(call("cuDeviceGet"));
  const auto get_name = reinterpret_cast<int (*)(char*, int, int)>(call("cuDeviceGetName"));
  int device = 0;
  const bool known = init != nullptr && get != nullptr && get_name != nullptr && init(0) == 0 &&
                     get(&device, index) == 0 &&
                     get_name(name.data(), static_cast<int>(name.size()), device) == 0;
  return known ? name.data() : "unknown";
}

}  // namespace

void SetUpRuntime(int threads) {
  at::set_num_threads(ChooseThreads(threads));  // also mkl_set_dynamic(false)
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

std::string DescribeDevice(const std::string& device) {
  if (device == "cpu") return device;
  int index = 0;
  if (device != "cuda") {
    const char* const end = device.data() + device.size();
    const auto [stop, error] =
        std::from_chars(device.data() + std::min<std::size_t>(5, device.size()), end, index);
    if (!device.starts_with("cuda:") || error != std::errc() || stop != end || index < 0) {
      throw InvalidInput("device: found '" + device + "', expected cpu, cuda or cuda:N");
    }
  }
  // An int8_t, but a count. NOLINTNEXTLINE(bugprone-signed-char-misuse)
  const auto devices = static_cast<int>(torch::cuda::device_count());
  if (index >= devices) {
    throw InvalidInput(
        "device: '" + device + "' is not here: libtorch " + TORCH_VERSION + " sees " +
        std::to_string(devices) + " CUDA devices" +
        (at::hasCUDA() ? "" : " (this libtorch is a CPU build, or finds no driver)"));
  }
  return device + ": " + CudaName(index);
}

std::string KernelsFor(const ArchiveInfo& info) {
  const kernels::Kernels* kernels = kernels::Best();
  // Whole vectors only.
  const bool fits = info.head_dim % 16 == 0 && info.width % 16 == 0;
  return kernels != nullptr && fits ? kernels->name : kTorchKernels;
}

torch::jit::Module LoadModule(const ArchiveInfo& info) {
  const std::string path = info.path.string();
  return TorchCall("cannot load " + path, Error::Kind::kCorrupt, [&] {
    const auto image = std::make_shared<ArchiveImage>(path);
    if (image->seal().image != info.image_digest) {
      throw Corrupt(path + " was replaced while it was being loaded; run it again");
    }
    torch::jit::Module module = torch::jit::load(image, at::kCPU);
    image->Attach(module);
    module.eval();
    return module;
  });
}

}  // namespace kvr::model
