#include "kvr/experiment/fidelity.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>

namespace kvr::experiment {
namespace {

TEST(KlDivergenceTest, IsZeroForEqualRowsAndShiftInvariant) {
  const std::array<float, 3> p = {1, 2, 3}, shifted = {101, 102, 103};
  EXPECT_DOUBLE_EQ(KlDivergence(p, p), 0);
  EXPECT_NEAR(KlDivergence(p, shifted), 0, 1e-6);
}

TEST(KlDivergenceTest, TwoOutcomesByHand) {
  // p = (1/2, 1/2), q = (3/4, 1/4): KL = ln(2/3)/2 + ln(2)/2.
  const std::array<float, 2> p = {0, 0};
  const std::array<float, 2> q = {std::log(3.0F), 0};
  EXPECT_NEAR(KlDivergence(p, q), 0.5 * std::log(2.0 / 3) + 0.5 * std::log(2.0), 1e-6);
}

TEST(RougeLTest, ByHand) {
  EXPECT_DOUBLE_EQ(RougeL("The cat sat.", "the CAT sat"), 1);
  // LCS of (police killed the gunman) and (police kill the gunman): three of four and four.
  EXPECT_DOUBLE_EQ(RougeL("police killed the gunman", "police kill the gunman"), 0.75);
  EXPECT_DOUBLE_EQ(RougeL("a b c", "d e"), 0);
  EXPECT_DOUBLE_EQ(RougeL("", "..."), 1);
  EXPECT_DOUBLE_EQ(RougeL("", "word"), 0);
}

}  // namespace
}  // namespace kvr::experiment
