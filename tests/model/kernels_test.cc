#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "kernels_testing.h"
#include "kvr/model/language_model.h"
#include "kvr/model/runtime.h"
#include "testing.h"

namespace kvr::model::kernels {
namespace {

using testing::BitwiseEqual;

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
