// What this machine can do at best, measured in the way the models use it: the bounds that phases
// are compared with. REQUIRES: SetUpRuntime was called; nothing else runs.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

namespace kvr::model {

// Bytes per second of summing 256 MB of floats: what decoding's reading of weights can reach. Best
// of several passes.
[[nodiscard]] double MeasureReadBandwidth();

// Bytes per second, read plus written, of copying 256 MB.
[[nodiscard]] double MeasureCopyBandwidth();

// A linear layer's weight: outputs, inputs.
using LinearShape = std::pair<std::int64_t, std::int64_t>;

// Floating-point operations per second of oneDNN-packed fp32 linear layers at `rows` rows: the
// shapes one after the other, each with a weight of its own. Best of several passes.
[[nodiscard]] double MeasureGemmRate(const std::vector<LinearShape>& shapes, int rows);

}  // namespace kvr::model
