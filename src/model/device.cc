#include "kvr/model/device.h"

#include <dlfcn.h>
#include <torch/cuda.h>
#include <torch/script.h>
#include <torch/version.h>

#include <array>
#include <charconv>

#include "kvr/base/error.h"

namespace kvr::model {

namespace {

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

}  // namespace kvr::model
