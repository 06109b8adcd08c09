// What the system tells of the machine's processor and of what it lets this process use.
//
// Thread safety: functions of their arguments and of files. Errors: none; what can't be read is
// null. Cost: some files below /proc and /sys.
#pragma once

#include <filesystem>

#include "kvr/base/json.h"

namespace kvr::experiment {

// Of a system whose /proc and /sys lie below `root`:
// caches: {"L1d", "L1i", "L2", "L3"}, bytes, of CPU 0, those that it has; governor: of frequency
// scaling, several with ", " between them; cgroup_cpus: the CPU time per wall time that control
// groups allow, null without limit.
[[nodiscard]] Json DescribeMachine(const std::filesystem::path& root = "/");

}  // namespace kvr::experiment
