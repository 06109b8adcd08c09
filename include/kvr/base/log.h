// Logging set-up: spdlog to stderr, so that stdout carries results only.
#pragma once

#include <string>

namespace kvr {

// `level` is one of trace, debug, info, warning, error, off. Throws kInvalidInput for another.
void SetUpLogging(const std::string& level);

}  // namespace kvr
