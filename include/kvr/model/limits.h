// What this machine can do at best, measured in the way the models use it: the bounds that phases
// are compared with. REQUIRES: SetUpRuntime was called; nothing else runs.
//
// Thread safety: none; each call takes all compute threads. Errors: kInterrupted between passes;
// MeasureGemmRate also kIncompatible, where libtorch lacks what it calls. Cost: eight passes each.
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

// Floating-point operations per second of fp32 linear layers at `rows` rows, each shape by the
// faster of libtorch's two ways (MKL, and oneDNN with packed weights), its weights read from
// memory; each the best of several passes, in which all shapes take turns. The program's own
// kernels are measured against this.
[[nodiscard]] double MeasureGemmRate(const std::vector<LinearShape>& shapes, int rows);

}  // namespace kvr::model
