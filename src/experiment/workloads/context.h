// "context": histories of given lengths, each with one more turn: what usable context is measured
// by. A history is a stretch of a text that the user names; its last turn was saved as a reply is,
// so that saving has the cost of one turn, not of the whole history.
#pragma once

#include "kvr/experiment/workload.h"

namespace kvr::experiment::workloads {

void ReadContext(SettingReader& reader, const std::filesystem::path& path, Config* config);

inline constexpr Workload kContext = {"context", ReadContext};

}  // namespace kvr::experiment::workloads
