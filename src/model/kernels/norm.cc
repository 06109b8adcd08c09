// kvr::norm: LayerNorm, or without a bias RMSNorm, row by row.
#include "operators.h"
#include "profile.h"

namespace kvr::model::kernels {

at::Tensor NormOp(const at::Tensor& x, const at::Tensor& weight,
                  const std::optional<at::Tensor>& bias, double eps) {
  const Timed norm("norm");
  const Kernels& kernels = Here();
  const std::int64_t rows = x.size(0), width = x.size(1);
  const float* from = Floats(x, "x");
  const float* scale = Floats(weight, "weight");
  const float* shift = FloatsOrNull(bias, "bias");
  TORCH_CHECK(
      width % kWidthMultiple == 0 && weight.numel() == width && (!bias || bias->numel() == width),
      "norm: found ", width, " columns, expected a multiple of ", kWidthMultiple,
      " and as many weights");
  at::Tensor out = at::empty_like(x);
  auto* to = out.mutable_data_ptr<float>();
  Parallel(static_cast<int>(rows), kRows, [&](int row, int last) {
    for (; row < last; ++row) {
      kernels.norm(from + row * width, static_cast<int>(width), scale, shift,
                   static_cast<float>(eps), to + row * width);
    }
  });
  return out;
}

}  // namespace kvr::model::kernels
