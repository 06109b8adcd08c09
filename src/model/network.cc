#include "network.h"

#include "kernels/kernels.h"

namespace kvr::model {

std::string KernelsFor(const ArchiveInfo& info) {
  const kernels::Kernels* kernels = kernels::Best();
  const bool fits =
      info.head_dim % kernels::kWidthMultiple == 0 && info.width % kernels::kWidthMultiple == 0;
  return kernels != nullptr && fits ? kernels->name : kTorchKernels;
}

at::Tensor IdsTensor(std::span<const Token> ids, const std::string& device) {
  return at::from_blob(const_cast<Token*>(ids.data()), {static_cast<std::int64_t>(ids.size())},
                       at::kInt)
      .to(c10::Device(device), at::kLong);
}

std::vector<float> ToVector(const at::Tensor& result) {
  const at::Tensor floats = result.cpu().contiguous();
  const float* data = floats.const_data_ptr<float>();
  return {data, data + floats.numel()};
}

}  // namespace kvr::model
