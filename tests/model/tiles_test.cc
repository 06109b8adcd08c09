#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "kernels_testing.h"
#include "testing.h"

namespace kvr::model::kernels {
namespace {

using testing::BitwiseEqual;

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

}  // namespace
}  // namespace kvr::model::kernels
