#include "kvr/record/holm.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>
#include <random>
#include <string>
#include <vector>

namespace kvr::record {
namespace {

using Values = std::vector<double>;

// By hand: 4 * 0.005, 3 * 0.01, 2 * 0.03, and no less than that for the last.
TEST(HolmAdjusted, StepsDownFromTheSmallest) {
  const Values adjusted = HolmAdjusted(Values{0.01, 0.04, 0.03, 0.005});
  EXPECT_NEAR(adjusted[0], 0.03, 1e-15);
  EXPECT_NEAR(adjusted[1], 0.06, 1e-15);
  EXPECT_NEAR(adjusted[2], 0.06, 1e-15);
  EXPECT_NEAR(adjusted[3], 0.02, 1e-15);
}

TEST(HolmAdjusted, LeavesOneAloneAndStaysBelowOne) {
  EXPECT_EQ(HolmAdjusted(Values{0.03}), Values{0.03});
  EXPECT_EQ(HolmAdjusted(Values{0.6, 0.7, 0}), (Values{1, 1, 0}));
  EXPECT_TRUE(HolmAdjusted(Values{}).empty());
}

Estimate Known(double mean, double standard_error, double df) {
  return {.mean = mean, .standard_error = standard_error, .df = df};
}

// 2.570582 is the 97.5 % point of 5 degrees of freedom.
TEST(PValue, IsWhereTheIntervalEndsAtOne) {
  EXPECT_NEAR(PValue(Known(2.570582, 1, 5)).value(), 0.05, 1e-7);
  EXPECT_NEAR(PValue(Known(-0.2570582, 0.1, 5)).value(), 0.05, 1e-7);
  EXPECT_DOUBLE_EQ(PValue(Known(0, 0.1, 5)).value(), 1);
  const Estimate beyond = Known(2.6, 1, 5), within = Known(2.5, 1, 5);
  EXPECT_GT(beyond.LogInterval(0.95)->low, 0);
  EXPECT_LT(PValue(beyond).value(), 0.05);
  EXPECT_LT(within.LogInterval(0.95)->low, 0);
  EXPECT_GT(PValue(within).value(), 0.05);
  // No digits are lost far out, where 1 less the share below is 0.
  EXPECT_GT(PValue(Known(40, 1, 30)).value(), 0);
  EXPECT_LT(PValue(Known(40, 1, 30)).value(), 1e-20);
}

TEST(PValue, NeedsAnIntervalAndBearsOneWithoutWidth) {
  EXPECT_FALSE(PValue(Known(1, 1, 0)).has_value());
  EXPECT_EQ(PValue(Known(0, 0, 5)), 1);
  EXPECT_EQ(PValue(Known(0.1, 0, 5)), 0);
}

class Normal {
 public:
  explicit Normal(std::uint64_t seed) : random_(seed) {}
  double operator()() {
    return std::sqrt(-2 * std::log(Uniform())) * std::cos(2 * std::numbers::pi * Uniform());
  }

 private:
  double Uniform() { return (static_cast<double>(random_() >> 11) + 0.5) * 0x1p-53; }
  std::mt19937_64 random_;
};

// Tables of ten rows of twelve prompts, of which the first `true_rows` differ from 1. A prompt's
// noise is half its own and half shared by all rows, as rows of one table share their baseline.
// Returns the share of tables with a false row, without and with the adjustment, and that of true
// rows found.
struct Errors {
  double plain = 0, adjusted = 0, found = 0;
};
Errors Simulate(int true_rows) {
  constexpr int kTables = 2000, kRows = 10, kPrompts = 12;
  Errors errors;
  for (int table = 0; table < kTables; ++table) {
    Normal normal(static_cast<std::uint64_t>(table) * 100 + static_cast<std::uint64_t>(true_rows));
    Values shared(kPrompts), p_values;
    for (double& noise : shared) noise = normal();
    for (int row = 0; row < kRows; ++row) {
      std::vector<Observation> sample;
      for (int prompt = 0; prompt < kPrompts; ++prompt) {
        const double noise = 0.1 * (normal() + shared[static_cast<std::size_t>(prompt)]);
        sample.push_back({"g", std::to_string(prompt), noise + (row < true_rows ? 0.5 : 0)});
      }
      p_values.push_back(PValue(StratifiedMean(sample).value()).value());
    }
    const Values adjusted = HolmAdjusted(p_values);
    bool plain_false = false, adjusted_false = false;
    for (int row = 0; row < kRows; ++row) {
      const auto at = static_cast<std::size_t>(row);
      if (row < true_rows) {
        errors.found += adjusted[at] <= 0.05 ? 1.0 / (kTables * true_rows) : 0;
      } else {
        plain_false = plain_false || p_values[at] <= 0.05;
        adjusted_false = adjusted_false || adjusted[at] <= 0.05;
      }
    }
    errors.plain += plain_false ? 1.0 / kTables : 0;
    errors.adjusted += adjusted_false ? 1.0 / kTables : 0;
  }
  std::printf("| %d | %.3f | %.3f | %.3f |\n", true_rows, errors.plain, errors.adjusted,
              errors.found);
  return errors;
}

// 0.015 is three standard errors of a share of 5 % among 2,000.
TEST(Simulation, HolmKeepsTheLevelOfAWholeTable) {
  std::printf("| rows that differ, of 10 | false row, plain | false row, Holm | found, Holm |\n");
  for (const int true_rows : {0, 3, 7}) {
    const Errors errors = Simulate(true_rows);
    EXPECT_LE(errors.adjusted, 0.05 + 0.015) << true_rows;
    EXPECT_GT(errors.plain, 0.08) << true_rows;  // without it, the table cries wolf
    if (true_rows > 0) {
      EXPECT_GT(errors.found, 0.95);
    }
  }
}

// Of 400,000 draws of the noncentral t of 5 degrees of freedom 77 % pass 2.5706 when it is moved by
// 3.40, 80 % at 3.51 and 84 % at 3.70.
TEST(DetectableLogRatio, IsBeyondTheCriticalPointAndBeyondTheLeast) {
  EXPECT_NEAR(DetectableLogRatio(Known(0, 0.1, 5), 0.05, 0), 0.351, 0.003);
  EXPECT_NEAR(DetectableLogRatio(Known(0, 0.001, 5), 0.05, 0.05), 0.05 + 0.001 * 0.919544, 1e-6);
  EXPECT_EQ(DetectableLogRatio(Known(0, 0, 5), 0.05, 0.05), 0.05);
}

}  // namespace
}  // namespace kvr::record
