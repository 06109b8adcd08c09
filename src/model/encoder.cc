#include "kvr/model/encoder.h"

#include <cassert>

#include "archive_image.h"
#include "network.h"
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
    return ToVector(impl_->module.forward({IdsTensor(ids, "cpu")}).toTensor());
  });
}

}  // namespace kvr::model
