#include "kvr/record/holm.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace kvr::record {
namespace {

// By hand: 0.01 * 4, then 0.02 * 3 = 0.06, then max(0.06, 0.03 * 2), then max(0.06, 0.04).
TEST(HolmAdjusted, IsTheStepDownOfTheBook) {
  const std::vector<double> adjusted = HolmAdjusted(std::vector<double>{0.03, 0.01, 0.04, 0.02});
  const std::vector<double> expected = {0.06, 0.04, 0.06, 0.06};
  ASSERT_EQ(adjusted.size(), expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) EXPECT_DOUBLE_EQ(adjusted[i], expected[i]);
}

TEST(HolmAdjusted, NeverPassesOneAndTakesNothingAndOne) {
  EXPECT_TRUE(HolmAdjusted({}).empty());
  EXPECT_EQ(HolmAdjusted(std::vector<double>{0.2}), std::vector<double>{0.2});
  EXPECT_EQ(HolmAdjusted(std::vector<double>{0.9, 0.8}), (std::vector<double>{1, 1}));
}

Estimate Known(double mean, double standard_error) {
  return {.mean = mean, .prompts = 6, .clusters = 6, .standard_error = standard_error, .df = 5};
}

// The two-sided 5 % point of 5 degrees of freedom is 2.570582.
TEST(TwoSidedP, IsStudentsOnBothSides) {
  EXPECT_NEAR(TwoSidedP(Known(2.570582, 1)), 0.05, 1e-6);
  EXPECT_NEAR(TwoSidedP(Known(-0.2570582, 0.1)), 0.05, 1e-6);
  EXPECT_EQ(TwoSidedP(Known(0, 1)), 1);
  EXPECT_EQ(TwoSidedP(Known(0, 0)), 1);
  EXPECT_EQ(TwoSidedP(Known(0.1, 0)), 0);
}

// Of 400,000 draws of the noncentral t of 5 degrees of freedom 77 % pass 2.5706 when it is moved by
// 3.40, 80 % at 3.51 and 84 % at 3.70.
TEST(DetectableLogRatio, IsBeyondTheCriticalPointAndBeyondTheLeast) {
  EXPECT_NEAR(DetectableLogRatio(Known(0, 0.1), 0.05, 0), 0.351, 0.003);
  EXPECT_NEAR(DetectableLogRatio(Known(0, 0.001), 0.05, 0.05), 0.05 + 0.001 * 0.919544, 1e-6);
  EXPECT_EQ(DetectableLogRatio(Known(0, 0), 0.05, 0.05), 0.05);
}

}  // namespace
}  // namespace kvr::record
