#include "kernels_testing.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <ostream>
#include <string>
#include <utility>

namespace kvr::model::kernels {
namespace {

std::vector<const Kernels*> KernelsHere() {
  std::vector<const Kernels*> found(Supported().begin(), Supported().end());
#ifdef __x86_64__
  if (RunsHere(kAvx512)) found.push_back(&kEmulatedTiles);
#endif
  return found;
}

}  // namespace

void PrintTo(const Kernels* kernels, std::ostream* out) { *out << kernels->name; }

bool RunsHere(const Kernels& kernels) { return std::ranges::count(Supported(), &kernels) > 0; }

std::vector<float> KernelsTest::Random(std::size_t count) {
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(random_);
  return values;
}

INSTANTIATE_TEST_SUITE_P(InstructionSets, KernelsTest, ::testing::ValuesIn(KernelsHere()),
                         [](const auto& which) { return std::string(which.param->name); });
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(KernelsTest);

Weight MakeWeight(WeightType type, int outputs, int inputs, std::vector<float> values) {
  Weight weight{type, outputs, inputs, std::move(values), {}, {}, {}};
  const int panels = (outputs + kPanel - 1) / kPanel;
  const std::size_t count = static_cast<std::size_t>(panels) * kPanel * inputs;
  const std::size_t size = type == WeightType::kFp32 ? 4 : type == WeightType::kBf16 ? 2 : 1;
  weight.panels.resize(count * size);
  weight.scales.resize(count / kGroup);
  weight.offsets.resize(count / kGroup);
  for (int n = 0; n < outputs; ++n) {
    for (int k = 0; k < inputs; ++k) {
      float& value = weight.exact[static_cast<std::size_t>(n * inputs + k)];
      const int panel = n / kPanel, column = n % kPanel;
      const std::size_t at = static_cast<std::size_t>((panel * inputs + k) * kPanel + column);
      if (type == WeightType::kFp32) {
        std::memcpy(&weight.panels[at * 4], &value, 4);
      } else if (type == WeightType::kBf16) {
        std::uint32_t bits;
        std::memcpy(&bits, &value, 4);
        bits &= 0xffff0000;
        std::memcpy(&value, &bits, 4);
        std::memcpy(&weight.panels[at * 2], reinterpret_cast<const std::byte*>(&bits) + 2, 2);
      } else {
        // Scales of 1/16, so that every value is a whole multiple of it.
        const auto whole =
            static_cast<std::int8_t>(std::lround(std::clamp(value * 16, -127.F, 127.F)));
        value = static_cast<float>(whole) / 16;
        const std::size_t byte = static_cast<std::size_t>(
            ((panel * (inputs / 4) + k / 4) * kPanel + column) * 4 + k % 4);
        std::memcpy(&weight.panels[byte], &whole, 1);
        const std::size_t group =
            static_cast<std::size_t>((panel * (inputs / kGroup) + k / kGroup) * kPanel + column);
        weight.scales[group] = 1.F / 16;
        weight.offsets[group] -= 128 * whole;
      }
    }
  }
  return weight;
}

std::vector<float> RunLinear(const Kernels& kernels, Linear layer, const std::vector<float>& x,
                             const float* bias, const float* residual, Activation activation) {
  layer.x = x.data();
  layer.rows = static_cast<int>(x.size()) / layer.inputs;
  const int width = activation == Activation::kSiluMultiply ? layer.outputs / 2 : layer.outputs;
  std::vector<float> out(static_cast<std::size_t>(layer.rows * width));
  layer.bias = bias;
  layer.residual = residual;
  layer.out = out.data();
  layer.activation = activation;
  std::vector<std::byte> packed(kernels.packed_bytes(layer));
  std::vector<std::byte> scratch(kernels.panel_scratch_bytes(layer));
  layer.packed_x = packed.data();
  for (int tile = 0; tile < kernels.row_tiles(layer); ++tile) kernels.pack_rows(layer, tile);
  const int panels = (layer.outputs + kPanel - 1) / kPanel;
  kernels.panels(layer, 0, panels / 2, scratch.data());
  kernels.panels(layer, panels / 2, panels, scratch.data());
  return out;
}

std::vector<float> RunLinear(const Kernels& kernels, const Weight& weight,
                             const std::vector<float>& x, const float* bias, const float* residual,
                             Activation activation) {
  Linear layer{};
  layer.inputs = weight.inputs;
  layer.outputs = weight.outputs;
  layer.type = weight.type;
  layer.weight = weight.panels.data();
  layer.scales = weight.scales.data();
  layer.offsets = weight.offsets.data();
  return RunLinear(kernels, layer, x, bias, residual, activation);
}

bool InTiles(const Kernels& kernels) {
#ifdef __x86_64__
  return &kernels == &kAmx || &kernels == &kEmulatedTiles;
#else
  return false;
#endif
}

}  // namespace kvr::model::kernels
