#include "kvr/model/encoder.h"

#include <cassert>

#include "torch_call.h"

namespace kvr::model {

struct Encoder::Impl {
  torch::jit::Module module;
};

Encoder::Encoder(const std::filesystem::path& path)
    : info_(ReadArchiveInfo(path, "encoder")),
      impl_(std::make_unique<Impl>(Impl{LoadModule(info_)})) {
  TorchCall("cannot prepare " + path.string(), Error::Kind::kIncompatible, [&] {
    const c10::InferenceMode inference;
    return impl_->module.run_method("prepare", KernelsFor(info_) != kTorchKernels);
  });
}

Encoder::~Encoder() = default;

std::vector<float> Encoder::Embed(std::span<const Token> ids) {
  assert(!ids.empty() && static_cast<int>(ids.size()) <= info_.context_tokens);
  return TorchCall("cannot embed with " + info_.path.string(), Error::Kind::kIncompatible, [&] {
    const c10::InferenceMode inference;
    const at::Tensor input = at::from_blob(const_cast<Token*>(ids.data()),
                                           {static_cast<std::int64_t>(ids.size())}, at::kInt)
                                 .to(at::kLong);
    const at::Tensor embedding = impl_->module.forward({input}).toTensor().contiguous();
    const float* data = embedding.const_data_ptr<float>();
    return std::vector<float>(data, data + embedding.numel());
  });
}

}  // namespace kvr::model
