#include "kvr/engine/sampler.h"

#include <gtest/gtest.h>

#include <array>
#include <map>

#include "kvr/base/error.h"

namespace kvr::engine {
namespace {

constexpr std::array<float, 4> kLogits = {0.0F, 2.0F, 1.0F, 2.0F};

TEST(SamplerTest, GreedyTakesTheLargestAndTheFirstOfEquals) {
  EXPECT_EQ(Sampler(Sampling{}).Pick(kLogits), 1);
}

TEST(SamplerTest, EqualSeedsGiveEqualTokens) {
  Sampler a({.temperature = 1, .seed = 5}), b({.temperature = 1, .seed = 5});
  for (int i = 0; i < 100; ++i) EXPECT_EQ(a.Pick(kLogits), b.Pick(kLogits));
}

TEST(SamplerTest, FrequenciesFollowTheSoftmax) {
  Sampler sampler({.temperature = 1, .seed = 1});
  std::map<Token, int> counts;
  constexpr int kDraws = 20000;
  for (int i = 0; i < kDraws; ++i) ++counts[sampler.Pick(kLogits)];
  const double sum = 1 + 2 * std::exp(2.0) + std::exp(1.0);
  EXPECT_NEAR(counts[0] / double{kDraws}, 1 / sum, 0.01);
  EXPECT_NEAR(counts[1] / double{kDraws}, std::exp(2.0) / sum, 0.02);
  EXPECT_NEAR(counts[2] / double{kDraws}, std::exp(1.0) / sum, 0.015);
}

TEST(SamplerTest, TopKAndTopPLeaveOutTheUnlikely) {
  Sampler top_k({.temperature = 1, .top_k = 2, .seed = 1});
  Sampler top_p({.temperature = 1, .top_p = 0.5, .seed = 1});
  for (int i = 0; i < 200; ++i) {
    const Token by_k = top_k.Pick(kLogits);
    EXPECT_TRUE(by_k == 1 || by_k == 3);
    const Token by_p = top_p.Pick(kLogits);  // the two at 0.40 each make 0.5
    EXPECT_TRUE(by_p == 1 || by_p == 3);
  }
  EXPECT_EQ(Sampler({.temperature = 1, .top_k = 1, .seed = 9}).Pick(kLogits), 1);
}

TEST(SamplerTest, RefusesWhatIsOutOfRange) {
  EXPECT_THROW(Sampler({.temperature = -1}), Error);
  EXPECT_THROW(Sampler({.temperature = 1, .top_k = -1}), Error);
  EXPECT_THROW(Sampler({.temperature = 1, .top_p = 0}), Error);
  EXPECT_THROW(Sampler({.temperature = 1, .top_p = 1.5}), Error);
}

}  // namespace
}  // namespace kvr::engine
