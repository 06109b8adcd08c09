#include "kvr/model/limits.h"

#include <torch/script.h>

#include <algorithm>
#include <limits>

#include "kvr/base/clock.h"
#include "torch_call.h"

namespace kvr::model {

namespace {

constexpr std::int64_t kFloats = std::int64_t{64} << 20;  // 256 MB
constexpr int kPasses = 7;

// The shortest of several runs, in seconds: noise only ever adds.
template <typename Work>
double BestSeconds(Work&& work) {
  double best = std::numeric_limits<double>::infinity();
  work();
  for (int i = 0; i < kPasses; ++i) {
    const Stopwatch watch;
    work();
    best = std::min(best, watch.ElapsedMs() / 1000);
  }
  return best;
}

}  // namespace

double MeasureReadBandwidth() {
  const c10::InferenceMode inference;
  const at::Tensor data = at::ones({kFloats}, at::kFloat);
  volatile float sink = 0;
  const double seconds = BestSeconds([&] { sink = data.sum().item<float>(); });
  (void)sink;
  return 4.0 * kFloats / seconds;
}

double MeasureCopyBandwidth() {
  const c10::InferenceMode inference;
  const at::Tensor from = at::ones({kFloats}, at::kFloat), to = at::empty_like(from);
  return 2 * 4.0 * kFloats / BestSeconds([&] { to.copy_(from); });
}

double MeasureGemmRate(const std::vector<LinearShape>& shapes, int rows) {
  return TorchCall("cannot measure the GEMM rate", Error::Kind::kIncompatible, [&] {
    const c10::InferenceMode inference;
    const auto pack =
        c10::Dispatcher::singleton().findSchemaOrThrow("mkldnn::_reorder_linear_weight", "");
    const auto linear =
        c10::Dispatcher::singleton().findSchemaOrThrow("mkldnn::_linear_pointwise", "");
    std::vector<at::Tensor> weights, inputs;
    double operations = 0;
    for (const auto& [outputs, inputs_width] : shapes) {
      torch::jit::Stack stack = {at::randn({outputs, inputs_width}), rows};
      pack.callBoxed(stack);
      weights.push_back(stack.at(0).toTensor());
      inputs.push_back(at::randn({rows, inputs_width}));
      operations += 2.0 * rows * static_cast<double>(outputs * inputs_width);
    }
    return operations / BestSeconds([&] {
             for (std::size_t i = 0; i < weights.size(); ++i) {
               torch::jit::Stack stack = {inputs[i],
                                          weights[i],
                                          c10::IValue(),
                                          "none",
                                          c10::List<std::optional<at::Scalar>>(),
                                          ""};
               linear.callBoxed(stack);
             }
           });
  });
}

}  // namespace kvr::model
