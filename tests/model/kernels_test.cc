#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "emulated_tiles.h"
#include "kvr/model/language_model.h"
#include "kvr/model/runtime.h"
#include "testing.h"

namespace kvr::model::kernels {
namespace {

using testing::BitwiseEqual;

// For test names, which must not change from run to run.
[[maybe_unused]] void PrintTo(const Kernels* kernels, std::ostream* out) { *out << kernels->name; }

bool RunsHere(const Kernels& kernels) { return std::ranges::count(Supported(), &kernels) > 0; }

std::vector<const Kernels*> KernelsHere() {
  std::vector<const Kernels*> found(Supported().begin(), Supported().end());
#ifdef __x86_64__
  if (RunsHere(kAvx512)) found.push_back(&kEmulatedTiles);
#endif
  return found;
}

class KernelsTest : public ::testing::TestWithParam<const Kernels*> {
 protected:
  std::vector<float> Random(std::size_t count) {
    std::normal_distribution<float> normal;
    std::vector<float> values(count);
    for (float& value : values) value = normal(random_);
    return values;
  }
  std::mt19937 random_{1};
};

INSTANTIATE_TEST_SUITE_P(InstructionSets, KernelsTest, ::testing::ValuesIn(KernelsHere()),
                         [](const auto& which) { return std::string(which.param->name); });
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(KernelsTest);

// A weight in panels, with what int8 needs, and its exact values [outputs, inputs].
struct Weight {
  WeightType type;
  int outputs, inputs;
  std::vector<float> exact;
  std::vector<std::byte> panels;
  std::vector<float> scales;
  std::vector<std::int32_t> offsets;
};

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

// Runs the kernels as kvr::linear does, on one thread; `layer` tells of the weight.
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

bool InTiles(const Kernels& kernels) {
#ifdef __x86_64__
  return &kernels == &kAmx || &kernels == &kEmulatedTiles;
#else
  return false;
#endif
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

#ifdef __x86_64__

std::vector<float> Product(const Kernels& kernels, const Weight& weight,
                           const std::vector<float>& x) {
  return RunLinear(kernels, weight, x, nullptr, nullptr, Activation::kNone);
}

// Whole numbers leave no room for another order.
TEST(TilesTest, Int8HasTheBitsOfVectors) {
  if (!RunsHere(kAvx512)) GTEST_SKIP() << "the instructions' emulation takes AVX-512";
  std::mt19937 random(2);
  std::normal_distribution<float> normal;
  for (const auto& [outputs, inputs] : {std::pair{1, 32}, {33, 64}, {100, 96}, {64, 160}}) {
    std::vector<float> values(static_cast<std::size_t>(outputs * inputs));
    for (float& value : values) value = normal(random);
    const Weight weight = MakeWeight(WeightType::kInt8, outputs, inputs, values);
    for (const int rows : {1, 7, 8, 15, 16, 17, 40}) {
      std::vector<float> x(static_cast<std::size_t>(rows * inputs));
      for (float& value : x) value = normal(random);
      const std::vector<float> expected = Product(kAvx512, weight, x);
      EXPECT_TRUE(BitwiseEqual(Product(kEmulatedTiles, weight, x), expected))
          << rows << " x " << inputs << " -> " << outputs;
      if (RunsHere(kAmx)) {
        EXPECT_TRUE(BitwiseEqual(Product(kAmx, weight, x), expected));
      }
    }
  }
}

TEST(TilesTest, Bf16RoundsToEvenAndKeepsWhatIsNotFinite) {
  if (!RunsHere(kAvx512)) GTEST_SKIP() << "the instructions' emulation takes AVX-512";
  // Through a weight of one 1 the rounded left side comes out.
  std::vector<float> values(32, 0.F);
  values[0] = 1;
  const Weight weight = MakeWeight(WeightType::kBf16, 1, 32, values);
  const auto through = [&](const Kernels& kernels, float x) {
    std::vector<float> row(32, 0.F);
    row[0] = x;
    return Product(kernels, weight, row)[0];
  };
  std::vector<const Kernels*> tiled = {&kEmulatedTiles};
  if (RunsHere(kAmx)) tiled.push_back(&kAmx);
  for (const Kernels* kernels : tiled) {
    const float step = 1.F / 128;
    EXPECT_EQ(through(*kernels, 1 + step / 2), 1);
    EXPECT_EQ(through(*kernels, 1 + 1.5F * step), 1 + 2 * step);
    EXPECT_EQ(through(*kernels, -(1 + 0.51F * step)), -(1 + step));
    EXPECT_EQ(through(*kernels, 3.4e38F), INFINITY);  // beyond bf16's largest
    EXPECT_EQ(through(*kernels, -INFINITY), -INFINITY);
    std::uint32_t every_bit = 0x7fffffff;
    float nan;
    std::memcpy(&nan, &every_bit, sizeof(nan));
    EXPECT_TRUE(std::isnan(through(*kernels, nan)));
  }
}

// What lies behind a row's end, here infinite, is not computed with.
TEST(TilesTest, Bf16TakesAnyWidth) {
  if (!RunsHere(kAvx512)) GTEST_SKIP() << "the instructions' emulation takes AVX-512";
  std::mt19937 random(4);
  std::normal_distribution<float> normal;
  for (const int inputs : {1, 15, 16, 39, 48}) {
    const int whole = 64;
    const auto count = static_cast<std::size_t>(inputs);
    std::vector<float> values, padded_values(kPanel * whole, 0.F), padded_x(whole, 0.F);
    for (int i = 0; i < kPanel * inputs; ++i) {
      values.push_back(normal(random));
      padded_values[static_cast<std::size_t>(i / inputs * whole + i % inputs)] = values.back();
    }
    values.resize(values.size() + kPanel * count, INFINITY);  // another panel
    std::vector<float> x(count);
    for (float& value : x) value = normal(random);
    std::ranges::copy(x, padded_x.begin());
    x.resize(2 * count, INFINITY);  // another row
    const Weight weight = MakeWeight(WeightType::kBf16, 2 * kPanel, inputs, values);
    const Weight padded = MakeWeight(WeightType::kBf16, kPanel, whole, padded_values);
    std::vector<const Kernels*> tiled = {&kEmulatedTiles};
    if (RunsHere(kAmx)) tiled.push_back(&kAmx);
    for (const Kernels* kernels : tiled) {
      std::vector<float> found = Product(*kernels, weight, x);
      found.resize(kPanel);
      EXPECT_TRUE(BitwiseEqual(found, Product(*kernels, padded, padded_x))) << inputs;
    }
  }
}

TEST(TilesTest, TheInstructionsDoWhatTheirEmulationDoes) {
  if (!RunsHere(kAmx)) GTEST_SKIP() << "this CPU or its system has no tiles";
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  for (const WeightType type : {WeightType::kBf16, WeightType::kInt8}) {
    for (const auto& [outputs, inputs] : {std::pair{1, 32}, {33, 64}, {100, 96}, {64, 1536}}) {
      std::vector<float> values(static_cast<std::size_t>(outputs * inputs));
      for (float& value : values) value = normal(random);
      const Weight weight = MakeWeight(type, outputs, inputs, values);
      for (const int rows : {1, 8, 16, 17, 33, 100}) {
        std::vector<float> x(static_cast<std::size_t>(rows * inputs));
        for (float& value : x) value = normal(random);
        EXPECT_TRUE(BitwiseEqual(Product(kAmx, weight, x), Product(kEmulatedTiles, weight, x)))
            << static_cast<int>(type) << ": " << rows << " x " << inputs << " -> " << outputs;
      }
    }
  }
}

#endif

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

TEST_P(KernelsTest, NormsAreLayerNormAndRmsNorm) {
  for (const int width : {16, 48, 96, 576}) {
    const auto count = static_cast<std::size_t>(width);
    const std::vector<float> x = Random(count), weight = Random(count), bias = Random(count);
    for (const bool centered : {true, false}) {
      std::vector<float> found(count);
      GetParam()->norm(x.data(), width, weight.data(), centered ? bias.data() : nullptr, 1e-5F,
                       found.data());
      double mean = 0, squares = 0;
      for (const float v : x) mean += centered ? static_cast<double>(v) / width : 0;
      for (const float v : x) squares += (v - mean) * (v - mean) / width;
      for (std::size_t i = 0; i < count; ++i) {
        const double expected = (x[i] - mean) / std::sqrt(squares + 1e-5) * weight[i];
        EXPECT_NEAR(found[i], expected + (centered ? bias[i] : 0), 1e-5);
      }
    }
  }
}

// Runs the kernels as kvr::attend does, on one thread.
void RunAttention(const Kernels& kernels, const Attention& at) {
  for (int row = 0; row < at.count; ++row) kernels.store_row(at, row);
  std::vector<std::byte> scratch(kernels.attend_scratch_bytes(at));
  const int queries = at.count * (at.heads / at.kv_heads);
  for (int tile = 0; tile * kernels.query_tile < queries; ++tile) {
    for (int head = 0; head < at.kv_heads; ++head) {
      kernels.attend_tile(at, head, tile, scratch.data());
    }
  }
}

// What row `row` of head `head` should be: softmax over the keys that it sees, times their values.
std::vector<double> ExpectedAttention(const Attention& at, int row, int head) {
  const int dim = at.head_dim, width = (at.heads + 2 * at.kv_heads) * dim;
  const int seen = at.past + (at.causal ? row + 1 : at.count);
  const float* q = at.qkv + row * width + head * dim;
  const std::ptrdiff_t first = head / (at.heads / at.kv_heads) * at.capacity * dim;
  std::vector<double> weights, out(static_cast<std::size_t>(dim));
  double sum = 0;
  for (int k = 0; k < seen; ++k) {
    double score = 0;
    for (int d = 0; d < dim; ++d) score += q[d] * at.keys[first + k * dim + d];
    weights.push_back(std::exp(score / std::sqrt(dim)));
    sum += weights.back();
  }
  for (int k = 0; k < seen; ++k) {
    for (int d = 0; d < dim; ++d) {
      out[static_cast<std::size_t>(d)] +=
          weights[static_cast<std::size_t>(k)] / sum * at.values[first + k * dim + d];
    }
  }
  return out;
}

TEST_P(KernelsTest, AttentionIsSoftmaxOverWhatARowSees) {
  for (const auto& [heads, kv_heads, dim] : {std::tuple{4, 4, 16}, {6, 2, 64}, {3, 1, 80}}) {
    for (const auto& [past, count] : {std::pair{0, 1}, {0, 37}, {21, 9}, {40, 1}}) {
      for (const bool causal : {true, false}) {
        SCOPED_TRACE(::testing::Message() << heads << "/" << kv_heads << " of " << dim << ", "
                                          << past << " + " << count << (causal ? " causal" : ""));
        const int capacity = 64, width = (heads + 2 * kv_heads) * dim;
        std::vector<float> qkv = Random(static_cast<std::size_t>(count * width));
        std::vector<float> keys = Random(static_cast<std::size_t>(kv_heads * capacity * dim));
        std::vector<float> values = Random(keys.size());
        std::vector<float> out(static_cast<std::size_t>(count * heads * dim));
        const Attention at{.qkv = qkv.data(),
                           .cos = nullptr,
                           .sin = nullptr,
                           .keys = keys.data(),
                           .values = values.data(),
                           .out = out.data(),
                           .heads = heads,
                           .kv_heads = kv_heads,
                           .head_dim = dim,
                           .capacity = capacity,
                           .past = past,
                           .count = count,
                           .causal = causal};
        RunAttention(*GetParam(), at);
        for (int row = 0; row < count; ++row) {
          for (int head = 0; head < heads; ++head) {
            const std::vector<double> expected = ExpectedAttention(at, row, head);
            for (int d = 0; d < dim; ++d) {
              ASSERT_NEAR(at.out[(row * heads + head) * dim + d],
                          expected[static_cast<std::size_t>(d)], 2e-5);
            }
          }
        }
      }
    }
  }
}

TEST(KernelModelTest, KernelsAgreeWithTorchAtEveryPrecision) {
  SetUpRuntime(testing::Threads());
  if (Best() == nullptr) GTEST_SKIP() << "this CPU runs torch's kernels only";
  for (const char* name : {"tiny-gpt2", "tiny-llama", "tiny-random", "tiny-llama-bf16"}) {
    SCOPED_TRACE(name);
    LanguageModel ours(testing::TinyModel(name), {.block_tokens = 16});
    LanguageModel torch(testing::TinyModel(name), {.block_tokens = 16, .kernels = false});
    EXPECT_EQ(ours.kernel_path(), Best()->name);
    EXPECT_EQ(torch.kernel_path(), "torch");
    EXPECT_EQ(ours.layer_shapes(), torch.layer_shapes());
    Tokens ids(45);
    for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<Token>(7 * i % 300);
    KvBuffer a = ours.NewBuffer(45), b = torch.NewBuffer(45);
    const std::vector<float> found = ours.PrefillAllLogits(ids, 0, a);
    const std::vector<float> expected = torch.PrefillAllLogits(ids, 0, b);
    ASSERT_EQ(found.size(), expected.size());
    double largest = 0;
    for (const float logit : expected) largest = std::max(largest, std::abs(double{logit}));
    // Tiles round bf16's left side in every layer, by half of 1/128.
    const bool rounded = std::string(name) == "tiny-llama-bf16" && InTiles(*Best());
    for (std::size_t i = 0; i < found.size(); ++i) {
      ASSERT_NEAR(found[i], expected[i], rounded ? largest / 32 : 2e-4);
    }
    EXPECT_GT(largest, 0.1);
  }
}

TEST(KernelModelTest, TheNumberOfThreadsChangesNoBit) {
  if (Best() == nullptr) GTEST_SKIP() << "this CPU runs torch's kernels only";
  for (const char* name : {"tiny-gpt2", "tiny-llama", "tiny-llama-bf16", "tiny-llama-int8"}) {
    SCOPED_TRACE(name);
    LanguageModel model(testing::TinyModel(name), {.block_tokens = 16});
    Tokens ids(45);
    for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<Token>(13 * i % 300);
    KvBuffer first = model.NewBuffer(46);
    SetUpRuntime(1);
    const std::vector<float> prefilled = model.PrefillAllLogits(ids, 0, first);
    const std::vector<float> decoded = model.Decode(5, 45, first);
    for (const int threads : {2, 3, 4, 7}) {
      SCOPED_TRACE(threads);
      SetUpRuntime(threads);
      KvBuffer buffer = model.NewBuffer(46);
      EXPECT_TRUE(testing::BitwiseEqual(model.PrefillAllLogits(ids, 0, buffer), prefilled));
      EXPECT_TRUE(testing::BitwiseEqual(model.Decode(5, 45, buffer), decoded));
      EXPECT_TRUE(buffer.EqualBits(first, 0, 46));
    }
  }
}

TEST(KernelModelTest, EveryCutAndEveryDecodeStepGivesTheSameBits) {
  SetUpRuntime(testing::Threads());
  if (Best() == nullptr) GTEST_SKIP() << "this CPU runs torch's kernels only";
  for (const char* name : {"tiny-gpt2", "tiny-llama", "tiny-llama-bf16", "tiny-llama-int8"}) {
    LanguageModel model(testing::TinyModel(name), {.block_tokens = 16});
    Tokens ids(45);
    for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<Token>(11 * i % 300);
    const std::span<const Token> all(ids);
    KvBuffer whole = model.NewBuffer(45);
    const std::vector<float> expected = model.Prefill(all, 0, whole);
    for (std::size_t cut = 1; cut < ids.size(); ++cut) {
      SCOPED_TRACE(::testing::Message() << name << ", cut at " << cut);
      KvBuffer buffer = model.NewBuffer(45);
      (void)model.Prefill(all.first(cut), 0, buffer);
      EXPECT_TRUE(
          BitwiseEqual(model.Prefill(all.subspan(cut), static_cast<int>(cut), buffer), expected));
      EXPECT_TRUE(buffer.EqualBits(whole, 0, 45));
    }
    KvBuffer stepped = model.NewBuffer(45);
    std::vector<float> last;
    for (int i = 0; i < 45; ++i) last = model.Decode(ids[static_cast<std::size_t>(i)], i, stepped);
    EXPECT_TRUE(BitwiseEqual(last, expected));
    EXPECT_TRUE(stepped.EqualBits(whole, 0, 45));
  }
}

}  // namespace
}  // namespace kvr::model::kernels
