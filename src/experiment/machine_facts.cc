#include "kvr/experiment/machine_facts.h"

#include <spdlog/fmt/fmt.h>

#include <charconv>
#include <fstream>
#include <optional>
#include <set>
#include <string>

#include "kvr/base/cores.h"

namespace kvr::experiment {
namespace {

namespace fs = std::filesystem;

constexpr const char* kCpus = "sys/devices/system/cpu";

// The first line; empty where there is none.
std::string LineOf(const fs::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// "48K", "2M" or a number of bytes.
std::optional<std::int64_t> Bytes(const std::string& size) {
  std::int64_t number = 0;
  const char* const end = size.data() + size.size();
  const auto [unit, error] = std::from_chars(size.data(), end, number);
  if (error != std::errc() || number <= 0) return std::nullopt;
  const std::string rest(unit, end);
  if (rest.empty()) return number;
  if (rest == "K") return number << 10;
  if (rest == "M") return number << 20;
  return std::nullopt;
}

Json Caches(const fs::path& root) {
  Json caches = Json::object();
  for (int index = 0;; ++index) {
    const fs::path folder = root / kCpus / "cpu0/cache" / ("index" + std::to_string(index));
    const std::string level = LineOf(folder / "level"), type = LineOf(folder / "type");
    if (level.empty()) break;
    const std::string suffix = type == "Data" ? "d" : type == "Instruction" ? "i" : "";
    if (const auto bytes = Bytes(LineOf(folder / "size"))) {
      caches[fmt::format("L{}{}", level, suffix)] = *bytes;
    }
  }
  return caches.empty() ? Json(nullptr) : caches;
}

Json Governor(const fs::path& root) {
  std::set<std::string> governors;
  std::error_code none;
  for (const fs::directory_entry& cpu : fs::directory_iterator(root / kCpus, none)) {
    const std::string governor = LineOf(cpu.path() / "cpufreq/scaling_governor");
    if (!governor.empty()) governors.insert(governor);
  }
  if (governors.empty()) return nullptr;
  return fmt::format("{}", fmt::join(governors, ", "));
}

}  // namespace

Json DescribeMachine(const fs::path& root) {
  const std::optional<double> quota = CpuQuota(root);
  return {{"caches", Caches(root)},
          {"governor", Governor(root)},
          {"cgroup_cpus", quota ? Json(*quota) : Json(nullptr)}};
}

}  // namespace kvr::experiment
