// What the kernels' tests share: the instruction sets that run here, weights in panels, and one
// linear layer computed as kvr::linear does.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

#include "emulated_tiles.h"

namespace kvr::model::kernels {

// For test names, which must not change from run to run.
void PrintTo(const Kernels* kernels, std::ostream* out);

[[nodiscard]] bool RunsHere(const Kernels& kernels);

// One test for each instruction set that runs here, the tiles' emulation among them.
class KernelsTest : public ::testing::TestWithParam<const Kernels*> {
 protected:
  std::vector<float> Random(std::size_t count);
  std::mt19937 random_{1};
};

// A weight in panels, with what int8 needs, and its exact values [outputs, inputs].
struct Weight {
  WeightType type;
  int outputs, inputs;
  std::vector<float> exact;
  std::vector<std::byte> panels;
  std::vector<float> scales;
  std::vector<std::int32_t> offsets;
};

[[nodiscard]] Weight MakeWeight(WeightType type, int outputs, int inputs,
                                std::vector<float> values);

// Runs the kernels as kvr::linear does, on one thread; `layer` tells of the weight.
[[nodiscard]] std::vector<float> RunLinear(const Kernels& kernels, Linear layer,
                                           const std::vector<float>& x, const float* bias,
                                           const float* residual, Activation activation);
[[nodiscard]] std::vector<float> RunLinear(const Kernels& kernels, const Weight& weight,
                                           const std::vector<float>& x, const float* bias,
                                           const float* residual, Activation activation);

// Whether bf16 and int8 are computed in tiles.
[[nodiscard]] bool InTiles(const Kernels& kernels);

}  // namespace kvr::model::kernels
