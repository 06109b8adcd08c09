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
// Floats in all shapes' weights together: 64 MB, so that they come from memory, as a model's do.
constexpr std::int64_t kWeights = std::int64_t{16} << 20;
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

// Of one layer, the mean of all weights'.
template <typename Linear>
double SecondsEach(const Linear& linear, const at::Tensor& x,
                   const std::vector<at::Tensor>& weights) {
  const Stopwatch watch;
  for (const at::Tensor& weight : weights) linear(x, weight);
  return watch.ElapsedMs() / 1000 / static_cast<double>(weights.size());
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
    const auto by_packed = [&](const at::Tensor& x, const at::Tensor& weight) {
      torch::jit::Stack stack = {
          x, weight, c10::IValue(), "none", c10::List<std::optional<at::Scalar>>(), ""};
      linear.callBoxed(stack);
    };
    const auto by_plain = [](const at::Tensor& x, const at::Tensor& weight) {
      (void)at::linear(x, weight);
    };
    struct Layers {
      at::Tensor x;
      std::vector<at::Tensor> plain, packed;
      double seconds = std::numeric_limits<double>::infinity();  // of one layer
    };
    double operations = 0, seconds = 0;
    std::vector<Layers> by_shape;
    for (const auto& [outputs, inputs] : shapes) {
      const std::int64_t copies = std::min<std::int64_t>(
          kWeights / static_cast<std::int64_t>(shapes.size()) / (outputs * inputs) + 1, 64);
      Layers& layers = by_shape.emplace_back();
      layers.x = at::randn({rows, inputs});
      const at::Tensor weight = at::randn({outputs, inputs});
      for (std::int64_t i = 0; i < copies; ++i) {
        layers.plain.push_back(weight.clone());
        torch::jit::Stack stack = {weight, rows};
        pack.callBoxed(stack);
        layers.packed.push_back(stack.at(0).toTensor());
      }
      operations += 2.0 * rows * static_cast<double>(outputs * inputs);
    }
    for (int pass = 0; pass <= kPasses; ++pass) {
      for (Layers& layers : by_shape) {
        ThrowIfInterrupted();
        const double packed = SecondsEach(by_packed, layers.x, layers.packed);
        const double plain = SecondsEach(by_plain, layers.x, layers.plain);
        if (pass > 0) layers.seconds = std::min({layers.seconds, packed, plain});
      }
    }
    for (const Layers& layers : by_shape) seconds += layers.seconds;
    return operations / seconds;
  });
}

}  // namespace kvr::model
