#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "kernels_testing.h"
#include "testing.h"

namespace kvr::model::kernels {
namespace {

double Activate(Activation activation, double x) {
  switch (activation) {
    case Activation::kGeluTanh:
      return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case Activation::kGelu:
      return 0.5 * x * (1 + std::erf(x / std::sqrt(2)));
    case Activation::kNone:
    case Activation::kSiluMultiply:
      break;
  }
  return x;
}

// To 8 bits of mantissa, ties to even.
float ToBf16(float x) {
  int exponent;
  const float mantissa = std::frexp(x, &exponent);
  return std::ldexp(std::nearbyint(mantissa * 256) / 256, exponent);
}

TEST_P(KernelsTest, LinearLayersAreTheProductAtEveryShape) {
  for (const WeightType type : {WeightType::kFp32, WeightType::kBf16, WeightType::kInt8}) {
    for (const auto& [outputs, inputs] : {std::pair{1, 32}, {33, 64}, {100, 96}, {64, 160}}) {
      const Weight weight =
          MakeWeight(type, outputs, inputs, Random(static_cast<std::size_t>(outputs * inputs)));
      const std::vector<float> bias = Random(static_cast<std::size_t>(outputs));
      for (const int rows : {1, 2, 5, 13, 14, 15, 29, 64}) {
        SCOPED_TRACE(::testing::Message() << static_cast<int>(type) << ": " << rows << " x "
                                          << inputs << " -> " << outputs);
        const std::vector<float> x = Random(static_cast<std::size_t>(rows * inputs));
        const std::vector<float> residual = Random(static_cast<std::size_t>(rows * outputs));
        for (const Activation activation :
             {Activation::kNone, Activation::kGeluTanh, Activation::kGelu}) {
          const std::vector<float> found =
              RunLinear(*GetParam(), weight, x, bias.data(), residual.data(), activation);
          for (int r = 0; r < rows; ++r) {
            for (int n = 0; n < outputs; ++n) {
              double sum = bias[static_cast<std::size_t>(n)], size = 0;
              for (int k = 0; k < inputs; ++k) {
                const double w = weight.exact[static_cast<std::size_t>(n * inputs + k)];
                const float left = x[static_cast<std::size_t>(r * inputs + k)];
                const bool rounded = type == WeightType::kBf16 && InTiles(*GetParam());
                sum += (rounded ? ToBf16(left) : left) * w;
                size += std::abs(w);
              }
              const std::size_t at = static_cast<std::size_t>(r * outputs + n);
              // int8: half a step of the largest magnitude, below 5, for every weight.
              const double allowed = type == WeightType::kInt8 ? size * 5 / 127 / 2 : 2e-5;
              ASSERT_NEAR(found[at], Activate(activation, sum) + residual[at], allowed * 1.13);
            }
          }
        }
      }
    }
  }
}

TEST_P(KernelsTest, GatedLayersMultiply) {
  const int inputs = 32, inner = 48;
  std::vector<float> gate = Random(inner * inputs), up = Random(inner * inputs), mixed;
  for (int first = 0; first < inner; first += kPanel / 2) {
    for (const std::vector<float>* part : {&gate, &up}) {
      mixed.insert(mixed.end(), part->begin() + first * inputs,
                   part->begin() + (first + kPanel / 2) * inputs);
    }
  }
  const Weight weight = MakeWeight(WeightType::kFp32, 2 * inner, inputs, mixed);
  const std::vector<float> x = Random(3 * inputs);
  const std::vector<float> found =
      RunLinear(*GetParam(), weight, x, nullptr, nullptr, Activation::kSiluMultiply);
  for (int r = 0; r < 3; ++r) {
    for (int n = 0; n < inner; ++n) {
      double g = 0, u = 0;
      for (int k = 0; k < inputs; ++k) {
        const double value = x[static_cast<std::size_t>(r * inputs + k)];
        g += value * gate[static_cast<std::size_t>(n * inputs + k)];
        u += value * up[static_cast<std::size_t>(n * inputs + k)];
      }
      EXPECT_NEAR(found[static_cast<std::size_t>(r * inner + n)], g / (1 + std::exp(-g)) * u, 2e-4);
    }
  }
}

// What exactness at every depth rests on.
TEST_P(KernelsTest, ARowsBitsDoNotDependOnTheRowsBesideIt) {
  for (const WeightType type : {WeightType::kFp32, WeightType::kBf16, WeightType::kInt8}) {
    const Weight weight = MakeWeight(type, 70, 96, Random(70 * 96));
    const std::vector<float> x = Random(61 * 96);
    const std::vector<float> whole =
        RunLinear(*GetParam(), weight, x, nullptr, nullptr, Activation::kGeluTanh);
    for (int first = 0; first < 61; ++first) {
      for (const int rows : {1, 3, 61 - first}) {
        if (first + rows > 61) continue;
        const std::vector<float> part(x.begin() + first * 96, x.begin() + (first + rows) * 96);
        const std::vector<float> found =
            RunLinear(*GetParam(), weight, part, nullptr, nullptr, Activation::kGeluTanh);
        ASSERT_EQ(std::memcmp(found.data(), whole.data() + first * 70, found.size() * 4), 0)
            << "rows " << first << " to " << first + rows;
      }
    }
  }
}

// A quantized file's numbers in both of their layouts, and the fp32 values that they stand for,
// which the float kernels take. Scales of halves: 11 bits, as a product by 8 more bits then is
// exact.
struct Source {
  Weight values;
  std::vector<std::byte> panels;
  std::vector<std::uint16_t> half_scales, half_lows;
  std::vector<float> scales, lows;
};

Source MakeSource(int bits, int group, bool with_lows, int outputs, int inputs,
                  std::mt19937* random) {
  const int panels = (outputs + kPanel - 1) / kPanel, groups = inputs / group;
  Source source;
  std::vector<float> values(static_cast<std::size_t>(outputs * inputs));
  source.panels.resize(static_cast<std::size_t>(panels * kPanel * inputs * bits / 8));
  // A half is 0x3c00 for 1, and its next ones are 1/1024 more each.
  std::uniform_int_distribution<int> step(0, 1023), sign(0, 1);
  for (int i = 0; i < panels * groups * kPanel; ++i) {
    for (auto* plane : {&source.half_scales, &source.half_lows}) {
      plane->push_back(static_cast<std::uint16_t>(0x3c00 + step(*random) + 0x8000 * sign(*random)));
      const int half = plane->back();
      (plane == &source.half_scales ? source.scales : source.lows)
          .push_back((half & 0x8000 ? -1.F : 1.F) *
                     (1 + static_cast<float>((half & 0x7fff) - 0x3c00) / 1024));
    }
  }
  std::uniform_int_distribution<int> number(bits == 4 ? 0 : -128, bits == 4 ? 15 : 127);
  for (int n = 0; n < outputs; ++n) {
    for (int k = 0; k < inputs; ++k) {
      const int panel = n / kPanel, column = n % kPanel, found = number(*random);
      const auto at = static_cast<std::size_t>((panel * groups + k / group) * kPanel + column);
      const float product = static_cast<float>(found) * source.scales[at];
      values[static_cast<std::size_t>(n * inputs + k)] =
          with_lows ? product + source.lows[at] : product;
      if (bits == 8) {
        source.panels[static_cast<std::size_t>((panel * inputs + k) * kPanel + column)] =
            static_cast<std::byte>(found);
      } else {
        const int word = panel * inputs / 8 + k / 32 * 4 + k % 4, nibble = k % 32 / 4;
        source.panels[static_cast<std::size_t>((word * kPanel + column) * 4 + nibble / 2)] |=
            static_cast<std::byte>(found << (nibble % 2 * 4));
      }
    }
  }
  source.values = MakeWeight(WeightType::kFp32, outputs, inputs, std::move(values));
  return source;
}

TEST_P(KernelsTest, AQuantizedFilesNumbersGiveTheBitsOfTheirValues) {
  for (const auto& [bits, group] : {std::pair{4, 32}, {8, 32}, {8, 16}}) {
    for (const bool lows : {true, false}) {
      for (const bool halves : {true, false}) {
        for (const auto& [outputs, inputs] : {std::pair{1, 32}, {33, 64}, {100, 96}, {170, 64}}) {
          const Source source = MakeSource(bits, group, lows, outputs, inputs, &random_);
          Linear layer{};
          layer.inputs = inputs;
          layer.outputs = outputs;
          layer.type = bits == 4 ? WeightType::kSource4 : WeightType::kSource8;
          layer.weight = source.panels.data();
          layer.source_group = group;
          layer.source_scales = {source.scales.data(), false};
          if (lows) layer.source_lows = {source.lows.data(), false};
          if (halves) {
            layer.source_scales = {source.half_scales.data(), true};
            if (lows) layer.source_lows = {source.half_lows.data(), true};
          }
          for (const int rows : {1, 2, 13, 29}) {
            SCOPED_TRACE(::testing::Message()
                         << bits << " bits, groups of " << group << (lows ? ", lows" : "")
                         << (halves ? ", halves" : "") << ": " << rows << " x " << inputs << " -> "
                         << outputs);
            const std::vector<float> x = Random(static_cast<std::size_t>(rows * inputs));
            const std::vector<float> expected =
                RunLinear(*GetParam(), source.values, x, nullptr, nullptr, Activation::kNone);
            const std::vector<float> found =
                RunLinear(*GetParam(), layer, x, nullptr, nullptr, Activation::kNone);
            ASSERT_EQ(std::memcmp(found.data(), expected.data(), expected.size() * 4), 0);
          }
          for (int n = 0; n < outputs; ++n) {
            std::vector<float> row(static_cast<std::size_t>(inputs));
            GetParam()->unpack_row(layer, n, row.data());
            const auto first = source.values.exact.begin() + n * inputs;
            ASSERT_EQ(row, std::vector<float>(first, first + inputs));
          }
        }
      }
    }
  }
}

TEST_P(KernelsTest, QuantizingZerosGivesZeros) {
  const Weight weight = MakeWeight(WeightType::kInt8, 32, 64, Random(32 * 64));
  for (const float y : RunLinear(*GetParam(), weight, std::vector<float>(64, 0.F), nullptr, nullptr,
                                 Activation::kNone)) {
    EXPECT_EQ(y, 0);
  }
}

}  // namespace
}  // namespace kvr::model::kernels
