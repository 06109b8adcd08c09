#include "kvr/base/cores.h"

#include <sched.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <thread>
#include <utility>
#include <vector>

namespace kvr {

namespace {

namespace fs = std::filesystem;

// Of the system, and of those that the process may run on.
struct Counted {
  std::size_t all = 0, allowed = 0;
};

// Hyper-threads of one core share its arithmetic units.
Counted CountCores(const fs::path& root, const std::set<int>& cpus) {
  std::ifstream file(root / "proc/cpuinfo");
  std::set<std::pair<std::string, std::string>> all, allowed;
  std::string package;
  int cpu = -1;
  for (std::string line; std::getline(file, line);) {
    const auto begins = [&](const char* key) { return line.rfind(key, 0) == 0; };
    if (begins("processor")) std::istringstream(line.substr(line.find(':') + 1)) >> cpu;
    if (begins("physical id")) package = line;
    if (!begins("core id")) continue;
    all.emplace(package, line);
    if (cpus.contains(cpu)) allowed.emplace(package, line);
  }
  return {.all = all.size(), .allowed = allowed.size()};
}

std::optional<double> Quotient(std::istream&& in) {
  double quota = 0, period = 0;
  if (in >> quota >> period && quota > 0 && period > 0) return quota / period;
  return std::nullopt;  // "max", -1, or not there
}

std::string Content(const fs::path& path) {
  std::ifstream file(path);
  std::string text;
  std::getline(file, text);
  return text;
}

}  // namespace

std::optional<double> CpuQuota(const fs::path& root) {
  std::optional<double> least;
  std::ifstream groups(root / "proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {  // number:controllers:/path
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    const bool unified = controllers == ",,";
    if (!unified && controllers.find(",cpu,") == std::string::npos) continue;
    // In a container the path may be the host's, of which nothing is to be seen: then only the
    // mount's own root is.
    std::vector<fs::path> mounts;
    for (const char* mount : {"sys/fs/cgroup", "sys/fs/cgroup/unified", "sys/fs/cgroup/cpu",
                              "sys/fs/cgroup/cpu,cpuacct"}) {
      if (fs::is_directory(root / mount)) mounts.push_back(root / mount);
    }
    for (fs::path group = fs::path(line.substr(second + 1)).relative_path();;
         group = group.parent_path()) {
      for (const fs::path& mount : mounts) {
        const fs::path folder = mount / group;
        const std::optional<double> quota =
            unified ? Quotient(std::istringstream(Content(folder / "cpu.max")))
                    : Quotient(std::istringstream(Content(folder / "cpu.cfs_quota_us") + " " +
                                                  Content(folder / "cpu.cfs_period_us")));
        if (quota) least = std::min(least.value_or(*quota), *quota);
      }
      if (group.empty()) break;
    }
  }
  return least;
}

Cores UsableCores(const fs::path& root, const std::set<int>& cpus) {
  const Counted counted = CountCores(root, cpus);
  Cores cores{.usable = static_cast<int>(counted.allowed), .limit = "physical cores"};
  const auto allowed = static_cast<int>(cpus.size());
  if (cores.usable == 0 || cores.usable > allowed) cores.usable = std::max(1, allowed);
  if (static_cast<std::size_t>(cores.usable) < counted.all) cores.limit = "CPU affinity";
  if (const std::optional<double> quota = CpuQuota(root); quota && *quota < cores.usable) {
    cores = {.usable = std::max(1, static_cast<int>(*quota)), .limit = "cgroup quota"};
  }
  return cores;
}

Cores UsableCores() {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  std::set<int> cpus;
  if (::sched_getaffinity(0, sizeof mask, &mask) == 0) {
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (CPU_ISSET(cpu, &mask)) cpus.insert(cpu);
    }
  } else {  // more CPUs than the mask has room for
    for (int cpu = 0; cpu < static_cast<int>(std::thread::hardware_concurrency()); ++cpu) {
      cpus.insert(cpu);
    }
  }
  return UsableCores("/", cpus);
}

int ChooseThreads(int wanted) {
  const Cores cores = UsableCores();
  if (wanted > cores.usable) {
    spdlog::warn(
        "threads: found {}, but this process may use {} core{} ({}); those beyond wait for the "
        "others' cores, so that everything takes longer",
        wanted, cores.usable, cores.usable == 1 ? "" : "s", cores.limit);
  }
  return wanted > 0 ? wanted : cores.usable;
}

}  // namespace kvr
