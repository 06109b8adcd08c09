// kvr::embed: rows of a packed weight.
#include "operators.h"
#include "profile.h"

namespace kvr::model::kernels {

at::Tensor EmbedOp(const at::Tensor& weight, const at::Tensor& scales, const at::Tensor& offsets,
                   const at::Tensor& ids) {
  const Timed embed("embed");
  const Kernels& kernels = Here();
  const Linear layer = Describe(weight, scales, offsets);
  TORCH_CHECK(ids.scalar_type() == at::kLong && ids.is_contiguous(), "ids: expected int64");
  at::Tensor out = at::empty({ids.numel(), layer.inputs}, at::TensorOptions().dtype(at::kFloat));
  const auto* id = ids.const_data_ptr<std::int64_t>();
  auto* to = out.mutable_data_ptr<float>();
  const std::int64_t count = ids.numel();
  for (std::int64_t i = 0; i < count; ++i) {
    TORCH_CHECK(id[i] >= 0 && id[i] < layer.outputs, "token ", id[i], " is not in the vocabulary");
  }
  Parallel(static_cast<int>(count), kRows, [&](int i, int last) {
    for (; i < last; ++i) kernels.unpack_row(layer, id[i], to + std::int64_t{i} * layer.inputs);
  });
  return out;
}

}  // namespace kvr::model::kernels
