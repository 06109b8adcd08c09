// Logging set-up: spdlog to stderr, so that stdout carries results only.
//
// Thread safety: called once, by main; logging itself may be done from any thread.
#pragma once

#include <string>

namespace kvr {

// In colour on a terminal, unless the environment has NO_COLOR. `level` is one of trace, debug,
// info, warning, error, off. Throws kInvalidInput for another. Cost: a line that is off costs a
// comparison.
void SetUpLogging(const std::string& level);

}  // namespace kvr
