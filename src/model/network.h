// Private to the model layer: what the networks share, that is which kernels they run on, and what
// goes in and comes out.
#pragma once

#include <torch/script.h>

#include <span>
#include <string>
#include <vector>

#include "kvr/base/types.h"
#include "kvr/model/archive.h"

namespace kvr::model {

inline constexpr char kTorchKernels[] = "torch";
// The kernels that run a network of this shape on this CPU: their name, or kTorchKernels.
std::string KernelsFor(const ArchiveInfo& info);

// The ids as a network takes them, a copy on `device`.
at::Tensor IdsTensor(std::span<const Token> ids, const std::string& device);

// A result's floats, row by row, copied to the CPU.
std::vector<float> ToVector(const at::Tensor& result);

}  // namespace kvr::model
