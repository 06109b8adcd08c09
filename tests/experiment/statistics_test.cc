#include "kvr/experiment/statistics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace kvr::experiment {
namespace {

using Samples = std::vector<double>;

TEST(Quantile, InterpolatesAsTypeSeven) {
  const Samples sample = {40, 10, 30, 20};
  EXPECT_DOUBLE_EQ(Quantile(sample, 0).value(), 10);
  EXPECT_DOUBLE_EQ(Quantile(sample, 1).value(), 40);
  EXPECT_DOUBLE_EQ(Quantile(sample, 0.25).value(), 17.5);  // at 0.75 between 10 and 20
  EXPECT_DOUBLE_EQ(Quantile(sample, 0.9).value(), 37);     // at 2.7 between 30 and 40
  EXPECT_DOUBLE_EQ(Quantile(Samples{7}, 0.9).value(), 7);
}

TEST(Median, IsTheMiddleOrTheMeanOfTheTwoMiddleValues) {
  EXPECT_DOUBLE_EQ(Median(Samples{5, 1, 3}).value(), 3);
  EXPECT_DOUBLE_EQ(Median(Samples{4, 1, 3, 2}).value(), 2.5);
}

TEST(P95, NeedsTwoValues) {
  EXPECT_FALSE(P95(Samples{3}).has_value());
  EXPECT_DOUBLE_EQ(P95(Samples{0, 100}).value(), 95);
  Samples hundred_and_one;
  for (int i = 0; i <= 100; ++i) hundred_and_one.push_back(i);
  EXPECT_DOUBLE_EQ(P95(hundred_and_one).value(), 95);
}

TEST(GeometricMean, OfAGainAndItsInverseIsOne) {
  EXPECT_DOUBLE_EQ(GeometricMean(Samples{4, 0.25}).value(), 1);
  EXPECT_NEAR(GeometricMean(Samples{1, 2, 4, 8}).value(), std::sqrt(8), 1e-12);
}

TEST(GeometricMean, OfAValueThatIsNoRatioIsNothing) {
  EXPECT_FALSE(GeometricMean(Samples{2, 0}).has_value());
  EXPECT_FALSE(GeometricMean(Samples{2, -1}).has_value());
  EXPECT_FALSE(GeometricMean(Samples{2, std::nan("")}).has_value());
}

TEST(Statistics, NothingComesFromNothing) {
  EXPECT_FALSE(Quantile({}, 0.5).has_value());
  EXPECT_FALSE(Median({}).has_value());
  EXPECT_FALSE(P95({}).has_value());
  EXPECT_FALSE(Mean({}).has_value());
  EXPECT_FALSE(GeometricMean({}).has_value());
  EXPECT_FALSE(BootstrapInterval({}, Mean).has_value());
}

TEST(BootstrapInterval, NeedsSixClusters) {
  EXPECT_FALSE(BootstrapInterval(Samples{1, 2, 3, 4, 5}, Mean).has_value());
  EXPECT_TRUE(BootstrapInterval(Samples{1, 2, 3, 4, 5, 6}, Mean).has_value());
}

TEST(BootstrapInterval, OfEqualValuesIsThatValue) {
  const Interval interval = BootstrapInterval(Samples(8, 2.5), GeometricMean).value();
  EXPECT_NEAR(interval.low, 2.5, 1e-12);
  EXPECT_NEAR(interval.high, 2.5, 1e-12);
}

// The mean of n draws from {0, 1} in equal numbers is binomial: for n = 100 its 2.5 % and 97.5 %
// quantiles are 0.40 and 0.60.
TEST(BootstrapInterval, AgreesWithTheBinomial) {
  Samples coins(100, 0.0);
  for (std::size_t i = 0; i < 50; ++i) coins[i] = 1.0;
  const Interval interval = BootstrapInterval(coins, Mean).value();
  EXPECT_NEAR(interval.low, 0.40, 0.015);
  EXPECT_NEAR(interval.high, 0.60, 0.015);
}

// With six clusters, all six being the greatest has probability 6^-6, and no resample leaves the
// range.
TEST(BootstrapInterval, LiesWithinTheRangeAndAroundTheStatistic) {
  const Samples ratios = {1.1, 1.5, 2.0, 2.2, 3.0, 5.0};
  const Interval interval = BootstrapInterval(ratios, GeometricMean).value();
  const double mean = GeometricMean(ratios).value();
  EXPECT_GT(interval.low, 1.1);
  EXPECT_LT(interval.low, mean);
  EXPECT_GT(interval.high, mean);
  EXPECT_LT(interval.high, 5.0);
}

// The expected sums come from a second implementation of the generator, the drawing and the
// quantile, in Python. A change of any of them must show.
TEST(BootstrapInterval, IsTheSameOnEveryPlatform) {
  const Samples values = {1, 2, 4, 8, 16, 32, 64};
  const Interval interval = BootstrapInterval(values, Mean, /*seed=*/7).value();
  EXPECT_NEAR(interval.low * 7, 38, 1e-9);
  EXPECT_NEAR(interval.high * 7, 249.025, 1e-9);
  const Interval one = BootstrapInterval(values, Mean, /*seed=*/8, /*resamples=*/1).value();
  EXPECT_NEAR(one.low * 7, 106, 1e-9);
  EXPECT_NEAR(one.high * 7, 106, 1e-9);
}

TEST(BootstrapInterval, IsNothingWhenTheStatisticIs) {
  EXPECT_FALSE(BootstrapInterval(Samples{1, 2, 3, 0, 5, 6}, GeometricMean).has_value());
  EXPECT_FALSE(BootstrapInterval(Samples{1, 2, 3, 4, 5, 6}, Mean, 1, 0).has_value());
}

TEST(NoiseFloor, OfOnePairIsItsGreaterRatio) {
  const std::vector<Samples> pair = {{100, 110}};
  EXPECT_NEAR(NoiseFloor(pair).value(), 0.1, 1e-12);  // and -0.0909 half of the time
  const std::vector<Samples> equal(6, Samples{5, 5, 5});
  EXPECT_EQ(NoiseFloor(equal), 0);
}

// Of three prompts whose runs are 1 and 2, each draw is 1 or -1/2 with equal probability, and the
// median is 1 in half of the cases. One prompt of 101 never decides.
TEST(NoiseFloor, IsThatOfTheMedian) {
  EXPECT_NEAR(NoiseFloor(std::vector<Samples>(3, Samples{1, 2})).value(), 1, 1e-12);
  std::vector<Samples> many(101, Samples{7, 7});
  many[50] = {1, 1000};
  EXPECT_EQ(NoiseFloor(many), 0);
}

TEST(NoiseFloor, GrowsWithTheSpreadAndShrinksWithThePrompts) {
  std::vector<Samples> few, many;
  for (int i = 0; i < 60; ++i) {
    const Samples runs = {100.0, 100.0 + i % 6};
    if (i < 6) few.push_back(runs);
    many.push_back(runs);
  }
  EXPECT_GT(NoiseFloor(few).value(), 2 * NoiseFloor(many).value());
  EXPECT_LT(NoiseFloor(few).value(), 0.05);
}

TEST(NoiseFloor, NeedsTwoRunsOfAPrompt) {
  EXPECT_FALSE(NoiseFloor(std::vector<Samples>{}).has_value());
  EXPECT_FALSE(NoiseFloor(std::vector<Samples>{{1}, {}, {3}}).has_value());
  EXPECT_TRUE(NoiseFloor(std::vector<Samples>{{1}, {2, 3}}).has_value());
}

}  // namespace
}  // namespace kvr::experiment
