#include "kvr/record/statistics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

namespace kvr::record {
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

TEST(Percentile, NeedsAValueBelowTheLargest) {
  const auto counted = [](int values) {
    Samples sample;
    for (int i = 0; i < values; ++i) sample.push_back(i);
    return sample;
  };
  for (const auto& [q, needed] :
       std::vector<std::pair<double, int>>{{0.5, 3}, {0.9, 11}, {0.95, 21}, {0.99, 101}}) {
    EXPECT_FALSE(Percentile(counted(needed - 1), q).has_value()) << q;
    // The first of such size is the second largest.
    EXPECT_NEAR(Percentile(counted(needed), q).value(), needed - 2, 1e-9) << q;
  }
  EXPECT_DOUBLE_EQ(Percentile(counted(101), 0.95).value(), 95);
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
  EXPECT_FALSE(Percentile({}, 0.95).has_value());
  EXPECT_FALSE(Mean({}).has_value());
  EXPECT_FALSE(GeometricMean({}).has_value());
}

// Tables of Student's t: 4.302653 and 2.570582 are the 97.5 % points of 2 and 5 degrees of freedom.
TEST(Student, AgreesWithItsTables) {
  EXPECT_NEAR(StudentQuantile(0.975, 2), 4.302653, 1e-6);
  EXPECT_NEAR(StudentQuantile(0.975, 5), 2.570582, 1e-6);
  EXPECT_NEAR(StudentQuantile(0.95, 30), 1.697261, 1e-6);
  EXPECT_NEAR(StudentQuantile(0.025, 5), -2.570582, 1e-6);
  EXPECT_NEAR(StudentQuantile(0.75, 1), 1, 1e-9);  // Cauchy: tan(pi / 4)
  EXPECT_NEAR(StudentCdf(1, 2), 0.5 + 1 / std::sqrt(12.0), 1e-12);
  EXPECT_DOUBLE_EQ(StudentCdf(0, 7.5), 0.5);
}

// 8, 0 and 10 of 10.
TEST(ShareInterval, OfYesAndNoIsWilsons) {
  const auto eight = ShareInterval(0.8, 10), none = ShareInterval(0, 10),
             all = ShareInterval(1, 10);
  ASSERT_TRUE(eight && none && all);
  EXPECT_NEAR(eight->low, 0.4901625, 1e-6);
  EXPECT_NEAR(eight->high, 0.9433178, 1e-6);
  EXPECT_EQ(none->low, 0);
  EXPECT_NEAR(none->high, 0.2775328, 1e-6);
  EXPECT_NEAR(all->low, 0.7224672, 1e-6);
  EXPECT_EQ(all->high, 1);
  EXPECT_FALSE(ShareInterval(0.5, 0));
  for (const std::size_t count : {1, 27, 33, 53, 160}) {  // whatever is rounded on the way
    EXPECT_EQ(ShareInterval(1, count)->high, 1) << count;
    EXPECT_EQ(ShareInterval(0, count)->low, 0) << count;
  }
}

// 40 values a sample, half of them 1 and the others anywhere below: their mean lies in the
// interval.
TEST(ShareInterval, CoversTheMeanOfSharesInBetween) {
  std::mt19937_64 random(1);
  std::uniform_real_distribution<double> uniform;
  int covered = 0;
  constexpr int kSamples = 2000, kValues = 40;
  for (int i = 0; i < kSamples; ++i) {
    double sum = 0;
    for (int j = 0; j < kValues; ++j) sum += uniform(random) < 0.5 ? 1 : uniform(random);
    const auto interval = ShareInterval(sum / kValues, kValues);
    covered += interval->low <= 0.75 && 0.75 <= interval->high ? 1 : 0;
  }
  EXPECT_GE(covered, kSamples * 95 / 100);
}

// Mean 2, variance 2.5, standard error sqrt(2.5 / 5): the textbook's t interval.
TEST(StratifiedMean, OfOnePromptAClusterIsTheTextbooks) {
  std::vector<Observation> sample;
  for (int i = 0; i < 5; ++i) sample.push_back({"g", std::to_string(i), double(i)});
  const Estimate estimate = StratifiedMean(sample).value();
  EXPECT_DOUBLE_EQ(estimate.mean, 2);
  EXPECT_NEAR(estimate.standard_error, std::sqrt(0.5), 1e-12);
  EXPECT_DOUBLE_EQ(estimate.df, 4);
  const Interval interval = estimate.LogInterval(0.95).value();
  EXPECT_NEAR(interval.low, 2 - 2.776445 * std::sqrt(0.5), 1e-6);
  EXPECT_NEAR(estimate.RatioInterval(0.95).value().high,
              std::exp(interval.high - interval.low) * std::exp(interval.low), 1e-9);
}

// Three clusters of two equal prompts each: as if each were one prompt.
TEST(StratifiedMean, PromptsOfOneClusterAreOne) {
  std::vector<Observation> pairs, singles;
  for (int i = 0; i < 3; ++i) {
    const Observation one{"g", std::to_string(i), i * 1.0};
    singles.push_back(one);
    pairs.insert(pairs.end(), 2, one);
  }
  const Estimate two = StratifiedMean(pairs).value(), one = StratifiedMean(singles).value();
  EXPECT_EQ(two.clusters, 3u);
  EXPECT_EQ(two.prompts, 6u);
  EXPECT_NEAR(two.standard_error, one.standard_error, 1e-12);
  EXPECT_NEAR(two.df, one.df, 1e-12);
}

// Strata far apart: their distance is no noise. Variances 0.5 and 2 of two values each; the mean of
// four has variance (2 * 0.5 + 2 * 2) / 16 and (1 + 4)^2 / (1 + 16) degrees of freedom.
TEST(StratifiedMean, TakesSpreadWithinStrataOnly) {
  const std::vector<Observation> sample = {
      {"a", "1", 0}, {"a", "2", 1}, {"b", "3", 100}, {"b", "4", 102}};
  const Estimate estimate = StratifiedMean(sample).value();
  EXPECT_DOUBLE_EQ(estimate.mean, 50.75);
  EXPECT_NEAR(estimate.standard_error, std::sqrt(5.0 / 16), 1e-12);
  EXPECT_NEAR(estimate.df, 25.0 / 17, 1e-12);
}

TEST(StratifiedMean, StrataOfOneClusterArePooled) {
  const std::vector<Observation> apart = {{"a", "x", 0}, {"b", "x", 1}, {"c", "x", 2}};
  const std::vector<Observation> together = {{"a", "1", 0}, {"a", "2", 1}, {"a", "3", 2}};
  EXPECT_NEAR(StratifiedMean(apart).value().standard_error,
              StratifiedMean(together).value().standard_error, 1e-12);
  // A single one joins the stratum with fewest clusters.
  const Estimate joined =
      StratifiedMean(std::vector<Observation>{{"a", "1", 0}, {"a", "2", 1}, {"b", "3", 2}}).value();
  EXPECT_EQ(joined.clusters, 3u);
  EXPECT_DOUBLE_EQ(joined.df, 2);
}

TEST(StratifiedMean, FewerThanThreeClustersHaveNoInterval) {
  EXPECT_FALSE(StratifiedMean({}).has_value());
  const std::vector<Observation> two = {{"a", "1", 0}, {"a", "2", 1}, {"a", "2", 3}};
  EXPECT_FALSE(StratifiedMean(two).value().LogInterval(0.95).has_value());
  EXPECT_FALSE(TestEquivalence(StratifiedMean(two).value(), 0.03).has_value());
}

Estimate Known(double mean, double standard_error) {
  return {.mean = mean, .prompts = 6, .clusters = 6, .standard_error = standard_error, .df = 5};
}

// The 90 % point of 5 degrees of freedom on either side is 2.015048, the 95 % point 2.570582.
TEST(TestEquivalence, IsTheIntervalWithinTheMargin) {
  const double se = std::log(1.03) / 2.015048;
  EXPECT_EQ(TestEquivalence(Known(0, se * 0.999), 0.03)->verdict, Verdict::kEquivalent);
  EXPECT_EQ(TestEquivalence(Known(0, se * 1.001), 0.03)->verdict, Verdict::kUndecided);
  EXPECT_EQ(TestEquivalence(Known(0.1, 0.1 / 2.58), 0.03)->verdict, Verdict::kDiffers);
  EXPECT_EQ(TestEquivalence(Known(-0.1, 0.1 / 2.56), 0.03)->verdict, Verdict::kUndecided);
  // A difference that is known well and is small is equivalence.
  EXPECT_EQ(TestEquivalence(Known(0.01, 0.001), 0.03)->verdict, Verdict::kEquivalent);
}

TEST(TestEquivalence, SaysWhatItCouldHaveSeen) {
  const Equivalence result = TestEquivalence(Known(0, 0.01), 0.03).value();
  EXPECT_NEAR(result.detectable, std::expm1((2.570582 + 0.919544) * 0.01), 1e-6);
  EXPECT_GT(result.power_at_5, 0.95);
  EXPECT_NEAR(TestEquivalence(Known(0, 10), 0.03)->power_at_5, 0.05, 1e-3);
}

}  // namespace
}  // namespace kvr::record
