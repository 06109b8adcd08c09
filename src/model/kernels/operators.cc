// The operators' names and signatures, and the kernels that they run on.
#include "operators.h"

#include <torch/library.h>

#include "instruction_sets.h"

namespace kvr::model::kernels {

// Here, so that whoever asks for the kernels links the operators in.
const Kernels* Best() {
  const std::span<const Kernels* const> supported = Supported();
  return supported.empty() ? nullptr : supported.front();
}

const Kernels& Here() {
  const Kernels* kernels = Best();
  TORCH_CHECK(kernels != nullptr, "this CPU has neither AVX-512 nor AVX2 with FMA");
  return *kernels;
}

const float* Floats(const at::Tensor& tensor, const char* name) {
  TORCH_CHECK(tensor.scalar_type() == at::kFloat && tensor.is_contiguous(), name,
              ": expected contiguous floats");
  return tensor.const_data_ptr<float>();
}

const float* FloatsOrNull(const std::optional<at::Tensor>& tensor, const char* name) {
  return tensor.has_value() ? Floats(*tensor, name) : nullptr;
}

namespace {

std::string NameOp() { return Best() == nullptr ? "" : Best()->name; }

}  // namespace

// The exporter declares the same operators (scripts/kvr_export/layers.py).
TORCH_LIBRARY(kvr, library) {
  library.def("kernels() -> str", NameOp);
  library.def(
      "linear(Tensor x, Tensor weight, Tensor scales, Tensor offsets, Tensor? bias, "
      "Tensor? residual, int outputs, int activation) -> Tensor");
  library.def("norm(Tensor x, Tensor weight, Tensor? bias, float eps) -> Tensor");
  library.def(
      "attend(Tensor(a!) qkv, Tensor cos, Tensor sin, Tensor(b!) keys, Tensor(c!) values, "
      "int heads, int past, bool causal) -> Tensor");
  library.def("embed(Tensor weight, Tensor scales, Tensor offsets, Tensor ids) -> Tensor");
}

TORCH_LIBRARY_IMPL(kvr, CPU, library) {
  library.impl("linear", LinearOp);
  library.impl("norm", NormOp);
  library.impl("attend", AttendOp);
  library.impl("embed", EmbedOp);
}

}  // namespace kvr::model::kernels
