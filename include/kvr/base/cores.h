// How many cores this process may compute on.
//
// Thread safety: callable from any thread; nothing is kept. Errors: none; what cannot be read
// limits nothing. Cost: reads files below /proc and /sys.
#pragma once

#include <filesystem>
#include <optional>
#include <set>
#include <string>

namespace kvr {

struct Cores {
  int usable = 1;     // at least 1
  std::string limit;  // what sets that number: "physical cores", "CPU affinity" or "cgroup quota"
};

// The physical cores that the process' affinity mask has a CPU of, or fewer where a control group's
// quota gives it less time than theirs: a quota of 1.5 cores is 1, since the second of two threads
// would stand still for half of each period, and the first wait for it. Linux.
[[nodiscard]] Cores UsableCores();

// `wanted`, or where that is 0 the usable cores; warns if more than those are wanted.
[[nodiscard]] int ChooseThreads(int wanted);

// For tests: the above of a system whose /proc and /sys lie below `root`, and an affinity mask of
// `cpus`. What cannot be read limits nothing; without /proc/cpuinfo each CPU is a core.
[[nodiscard]] Cores UsableCores(const std::filesystem::path& root, const std::set<int>& cpus);

// The CPU time per wall time that the control groups of the process allow, version 1 or 2, the
// least of the nested ones'; nothing when unlimited or unknown.
[[nodiscard]] std::optional<double> CpuQuota(const std::filesystem::path& root);

}  // namespace kvr
