// Private to the kernels: the operators that a TorchScript archive calls, and what they share. Each
// checks its tensors, so that no archive reads or writes outside of them, and cuts the work into
// items for the pool's threads; which thread computes what never changes a bit.
//
// Thread safety: one caller at a time has the pool (base/pool.h); its scratch is each thread's own.
// Errors: c10::Error for shapes and types that do not fit.
#pragma once

#include <ATen/Parallel.h>
#include <torch/script.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "kernels.h"
#include "kvr/base/pool.h"

namespace kvr::model::kernels {

at::Tensor LinearOp(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& scales,
                    const at::Tensor& offsets, const std::optional<at::Tensor>& bias,
                    const std::optional<at::Tensor>& residual, std::int64_t outputs,
                    std::int64_t activation);

at::Tensor NormOp(const at::Tensor& x, const at::Tensor& weight,
                  const std::optional<at::Tensor>& bias, double eps);

at::Tensor AttendOp(const at::Tensor& qkv, const at::Tensor& cos, const at::Tensor& sin,
                    const at::Tensor& keys, const at::Tensor& values, std::int64_t heads,
                    std::int64_t past, bool causal);

at::Tensor EmbedOp(const at::Tensor& weight, const at::Tensor& scales, const at::Tensor& offsets,
                   const at::Tensor& ids);

// The kernels of this CPU. Throws where there are none.
const Kernels& Here();

// The tensor's floats, which must be contiguous; `name` is for the message.
const float* Floats(const at::Tensor& tensor, const char* name);
const float* FloatsOrNull(const std::optional<at::Tensor>& tensor, const char* name);

// The weight's part of a layer, from tensors in the exporter's layout.
Linear Describe(const at::Tensor& weight, const at::Tensor& scales, const at::Tensor& offsets);

template <typename Work>
void Parallel(int count, int least, const Work& work) {
  Pool::Global().For(at::get_num_threads(), count, least, work);
}

// The fewest rows at a time where a row is little work.
inline constexpr int kRows = 8;

// Scratch of the calling thread, cache-line aligned, kept and grown; one for each of the two uses.
template <int kUse>
std::byte* Scratch(std::size_t bytes) {
  thread_local std::vector<std::byte> memory;
  if (memory.size() < bytes + kAlign) memory.resize(bytes + bytes / 2 + kAlign);
  const auto address = reinterpret_cast<std::uintptr_t>(memory.data());
  return memory.data() + (kAlign - address % kAlign) % kAlign;
}

}  // namespace kvr::model::kernels
