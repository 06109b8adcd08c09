#include "kvr/model/limits.h"

#include <torch/script.h>

#include <algorithm>
#include <limits>

#include "kvr/base/clock.h"
#include "kvr/base/interrupt.h"
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
    ThrowIfInterrupted();
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
    double operations = 0, seconds = 0;
    for (const auto& [outputs, inputs] : shapes) {
      // Weights of 64 MB and more together, so that they come from memory, as a model's do.
      const std::int64_t copies =
          std::min<std::int64_t>((std::int64_t{16} << 20) / (outputs * inputs) + 1, 64);
      const at::Tensor x = at::randn({rows, inputs});
      std::vector<at::Tensor> plain, packed;
      for (std::int64_t i = 0; i < copies; ++i) {
        ThrowIfInterrupted();
        plain.push_back(at::randn({outputs, inputs}));
        torch::jit::Stack stack = {plain.back(), rows};
        pack.callBoxed(stack);
        packed.push_back(stack.at(0).toTensor());
      }
      const double by_packed = BestSeconds([&] {
        for (const at::Tensor& weight : packed) {
          torch::jit::Stack stack = {
              x, weight, c10::IValue(), "none", c10::List<std::optional<at::Scalar>>(), ""};
          linear.callBoxed(stack);
        }
      });
      const double by_plain = BestSeconds([&] {
        for (const at::Tensor& weight : plain) (void)at::linear(x, weight);
      });
      seconds += std::min(by_packed, by_plain) / static_cast<double>(copies);
      operations += 2.0 * rows * static_cast<double>(outputs * inputs);
    }
    return operations / seconds;
  });
}

}  // namespace kvr::model
