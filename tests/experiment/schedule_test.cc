#include "kvr/experiment/schedule.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

namespace kvr::experiment {
namespace {

Config ConfigOf(int prompts, int repetitions) {
  Config config;
  for (int i = 0; i < prompts; ++i) {
    config.test_prompts.push_back({"t" + std::to_string(i), i % 2 == 0 ? "even" : "odd", "x"});
  }
  config.codecs = {cache::Codec::kFp32};
  config.reuses = {{.policy = engine::Policy::kPrefix, .match = cache::Match::kToken},
                   {.policy = engine::Policy::kPrefix, .match = cache::Match::kBlock}};
  config.repetitions = repetitions;
  return config;
}

// What a step is, as text.
std::string Named(const Step& step) {
  record::Cell cell;
  cell.prompt_id = std::to_string(step.prompt);
  Describe(step.plan, &cell);
  return record::Identity(cell);
}

std::vector<std::string> Named(const std::vector<Step>& steps) {
  std::vector<std::string> names;
  for (const Step& step : steps) names.push_back(Named(step));
  return names;
}

TEST(ScheduleTest, ARoundHasEachPlanOfEachPromptOnce) {
  const Config config = ConfigOf(7, 1);
  const std::vector<std::string> names = Named(RoundOf(config, false, 0));
  EXPECT_EQ(names.size(), 7u * 5);
  EXPECT_EQ(std::set<std::string>(names.begin(), names.end()).size(), names.size());
  EXPECT_EQ(CellsPerModel(config), 35);
}

TEST(ScheduleTest, CountsAreOf64Bits) {
  Config config = ConfigOf(9000, 10000);
  config.reuses.resize(12, config.reuses[0]);
  EXPECT_EQ(CellsPerModel(config), std::int64_t{9000} * 10000 * (3 + 12));
}

TEST(ScheduleTest, APromptsPlansRunOneAfterAnother) {
  const std::vector<Step> steps = RoundOf(ConfigOf(7, 1), false, 0);
  for (std::size_t i = 0; i < steps.size(); ++i) {
    EXPECT_EQ(steps[i].prompt, steps[i - i % 5].prompt);
  }
}

TEST(ScheduleTest, TheSeedAndTheRoundDecideTheOrder) {
  Config config = ConfigOf(7, 3);
  const std::vector<std::string> first = Named(RoundOf(config, false, 0));
  EXPECT_EQ(first, Named(RoundOf(config, false, 0)));
  EXPECT_NE(first, Named(RoundOf(config, false, 1)));
  config.sampling.seed = 1;
  EXPECT_NE(first, Named(RoundOf(config, false, 0)));
}

// No arm is always first, whether the baseline or another.
TEST(ScheduleTest, EachPlanIsFirstAboutEquallyOften) {
  const Config config = ConfigOf(5, 200);
  std::map<std::string, int> first;
  for (int round = 0; round < config.repetitions; ++round) {
    const std::vector<Step> steps = RoundOf(config, false, round);
    for (std::size_t i = 0; i < steps.size(); i += 5) {
      record::Cell cell;
      Describe(steps[i].plan, &cell);
      ++first[record::Identity(cell)];
    }
  }
  ASSERT_EQ(first.size(), 5u);
  // 1000 draws of 5: mean 200, standard deviation 12.6.
  for (const auto& [plan, count] : first) EXPECT_NEAR(count, 200, 60) << plan;
}

TEST(ScheduleTest, TheBaselinesScheduleIsThatOfItsControlAndTheNullVariant) {
  const std::vector<CellPlan> plans = PlansOf(ConfigOf(1, 1), true);
  ASSERT_EQ(plans.size(), 5u);
  for (std::size_t i = 0; i < plans.size(); ++i) EXPECT_EQ(plans[i].free, i < 3) << i;
  for (const CellPlan& plan : PlansOf(ConfigOf(1, 1), false)) EXPECT_FALSE(plan.free);
}

TEST(ScheduleTest, LongPromptsComeInTurnFromEachGroupAndNotFromControls) {
  Config config = ConfigOf(9, 1);
  EXPECT_EQ(LongPrompts(config), std::vector<bool>(9, true));
  const auto of_group = [&](const char* group) {
    const std::vector<bool> is_long = LongPrompts(config);
    int count = 0;
    for (std::size_t i = 0; i < is_long.size(); ++i) {
      count += is_long[i] && config.test_prompts[i].group == group ? 1 : 0;
    }
    return count;
  };
  config.long_prompts = 4;
  EXPECT_EQ(of_group("even"), 2);
  EXPECT_EQ(of_group("odd"), 2);
  config.control_groups = {"odd"};
  EXPECT_EQ(of_group("even"), 4);
  EXPECT_EQ(of_group("odd"), 0);
  config.long_prompts = 100;
  EXPECT_EQ(of_group("even"), 5);
}

TEST(ScheduleTest, WarmUpsAreAllPlansOfSomePrompts) {
  Config config = ConfigOf(3, 1);
  config.warmups = 2;
  EXPECT_EQ(WarmUpOf(config, false).size(), 10u);
  config.warmups = 100;
  EXPECT_EQ(WarmUpOf(config, false).size(), 15u);
  config.warmups = 0;
  EXPECT_TRUE(WarmUpOf(config, false).empty());
}

}  // namespace
}  // namespace kvr::experiment
