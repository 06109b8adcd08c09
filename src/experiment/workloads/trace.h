// "trace": requests of a trace in Mooncake's format, of which a sample is run (docs/traces.md).
//
// Licence of the trace: that of the file that the user names; none is part of this project.
#pragma once

#include "kvr/experiment/workload.h"

namespace kvr::experiment::workloads {

void ReadTraceWorkload(SettingReader& reader, const std::filesystem::path& path, Config* config);

inline constexpr Workload kTrace = {"trace", ReadTraceWorkload};

}  // namespace kvr::experiment::workloads
