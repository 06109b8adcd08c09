#include "kvr/record/repetitions.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>
#include <vector>

namespace kvr::record {
namespace {

using Rounds = std::vector<std::vector<double>>;

// One prompt of variance 1 among 4 rounds: the mean's standard error is 1/2, a median's at most
// sqrt(pi / 2) times that; 3.182446 is the 97.5 % point of 3 degrees of freedom.
TEST(RepetitionWidth, IsTheTextbooksOfAMedian) {
  const double far = std::sqrt(0.75);
  const double half = 3.182446 * std::sqrt(std::numbers::pi / 2) / 2;
  EXPECT_NEAR(std::log1p(RepetitionWidth(Rounds{{far, -far, far, -far}}).value()), 2 * half, 1e-5);
}

// Prompts that differ from one another, or all gain the same, are no noise.
TEST(RepetitionWidth, SaysNothingOfPromptsOrOfTheSpeedUp) {
  const Rounds near = {{0, 0.1, 0.2}, {0, 0.1, 0.2}}, apart = {{0, 0.1, 0.2}, {5, 5.1, 5.2}};
  EXPECT_NEAR(RepetitionWidth(near).value(), RepetitionWidth(apart).value(), 1e-9);
  EXPECT_DOUBLE_EQ(RepetitionWidth(Rounds{{1, 1, 1}, {2, 2, 2}}).value(), 0);
}

TEST(RepetitionWidth, NarrowsWithRoundsAndWithPrompts) {
  std::vector<double> rounds;
  double before = 1e9;
  for (int i = 0; i < 16; i += 2) {
    rounds.insert(rounds.end(), {0.1, -0.1});
    const double now = RepetitionWidth(Rounds{rounds}).value();
    EXPECT_LT(now, before);
    EXPECT_LT(RepetitionWidth(Rounds{rounds, rounds, rounds, rounds}).value(), now / 2 + 1e-12);
    before = now;
  }
}

TEST(RepetitionWidth, NeedsTwoRoundsOfSomePrompt) {
  EXPECT_FALSE(RepetitionWidth(Rounds{}).has_value());
  EXPECT_FALSE(RepetitionWidth(Rounds{{0.1}, {0.2}}).has_value());
  EXPECT_DOUBLE_EQ(RepetitionWidth(Rounds{{0.1, 0.3}, {}}).value(),
                   RepetitionWidth(Rounds{{0.1, 0.3}}).value());
}

}  // namespace
}  // namespace kvr::record
