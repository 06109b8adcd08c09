#include "kvr/model/runtime.h"

#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <caffe2/serialize/read_adapter_interface.h>
#include <dlfcn.h>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/csrc/jit/runtime/profiling_graph_executor_impl.h>
#include <torch/cuda.h>
#include <torch/script.h>
#include <torch/version.h>

#include <array>
#include <atomic>
#include <charconv>
#include <cstring>
#include <fstream>
#include <future>
#include <map>
#include <set>
#include <thread>
#include <vector>

#include "huge_pages.h"
#include "kernels/kernels.h"
#include "kvr/base/file.h"
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

// An archive of which libtorch does not get to read the large records. The whole file is read into
// one piece of memory, by all threads, while libtorch is still at the code; then Attach() puts the
// records there in the place of libtorch's own memory for them, which nobody has touched.
class Archive final : public caffe2::serialize::ReadAdapterInterface {
 public:
  explicit Archive(const std::string& path)
      : path_(path),
        fd_(OpenForRead(path)),
        size_(FileSize(fd_.get(), path)),
        image_(HugePages(size_)) {
    for (int i = 1; i < at::get_num_threads(); ++i) {
      readers_.push_back(std::async(std::launch::async, [this] { ReadParts(); }));
    }
  }

  [[nodiscard]] std::size_t size() const override { return size_; }

  std::size_t read(std::uint64_t at, void* to, std::size_t count, const char*) const override {
    constexpr std::size_t kLarge = std::size_t{1} << 17;
    if (at >= size_) return 0;
    count = std::min<std::size_t>(count, size_ - at);
    if (count >= kLarge) {
      records_[to] = {at, count};
    } else {
      Read(at, to, count);
    }
    return count;
  }

  void Attach(const torch::jit::Module& module) {
    ReadParts();
    for (std::future<void>& reader : readers_) reader.get();
    std::size_t attached = 0;
    for (const auto& [name, value] : module.named_attributes(/*recurse=*/true)) {
      if (!value.isTensor()) continue;
      at::Tensor tensor = value.toTensor();
      const auto found = records_.find(tensor.storage().mutable_data());
      if (tensor.numel() == 0 || found == records_.end()) continue;
      TORCH_CHECK(tensor.is_contiguous() && tensor.storage_offset() == 0 &&
                      tensor.nbytes() <= found->second.count && found->second.at % kLine == 0,
                  name, ": not stored as a whole, from a multiple of ", kLine, " bytes on");
      tensor.set_data(at::from_blob(
          image_.get() + found->second.at, tensor.sizes(), [image = image_](void*) {},
          tensor.options()));
      ++attached;
    }
    TORCH_CHECK(attached >= records_.size(), "the archive has large records that are no weights");
  }

 private:
  static constexpr std::size_t kLine = 64;
  struct Record {
    std::uint64_t at;  // in the file
    std::size_t count;
  };

  void ReadParts() {
    constexpr std::size_t kPart = std::size_t{4} << 20;
    for (std::size_t at; (at = next_.fetch_add(kPart)) < size_;) {
      Read(at, image_.get() + at, std::min(kPart, size_ - at));
    }
  }

  void Read(std::uint64_t at, void* to, std::size_t count) const {
    iovec part{to, count};
    ReadScattered(fd_.get(), at, {&part, 1}, path_);
  }

  const std::string path_;
  const UniqueFd fd_;
  const std::size_t size_;
  const std::shared_ptr<std::byte> image_;
  std::atomic<std::size_t> next_ = 0;
  mutable std::map<const void*, Record> records_;
  std::vector<std::future<void>> readers_;  // last: ends first
};

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

torch::jit::Module LoadModule(const std::string& path) {
  return TorchCall("cannot load " + path, Error::Kind::kCorrupt, [&] {
    const auto archive = std::make_shared<Archive>(path);
    torch::jit::Module module = torch::jit::load(archive, at::kCPU);
    archive->Attach(module);
    module.eval();
    return module;
  });
}

}  // namespace kvr::model
