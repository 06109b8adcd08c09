// How long a history may be within a budget, and the tables of conversations.
#include <random>

#include "../../src/report/budget.h"
#include "report_fixture.h"

namespace kvr::report {
namespace {

// Eleven of each, so that there is a percentile.
TimesByLength Times(const std::map<std::int64_t, Samples>& by_length, int clusters = 1) {
  TimesByLength times;
  for (const auto& [length, samples] : by_length) {
    for (int cluster = 0; cluster < clusters; ++cluster) {
      Samples& all = times[length][std::to_string(cluster)];
      for (int i = 0; i < 11; ++i) all.insert(all.end(), samples.begin(), samples.end());
    }
  }
  return times;
}

TEST(BudgetTest, TheCurveIsThe95thPercentileAndNeverFalls) {
  const Curve curve =
      CurveOf(Times({{100, {10, 10}}, {200, {30, 30}}, {300, {20, 20}}, {400, {50, 50}}}));
  EXPECT_EQ(curve.lengths, (std::vector<double>{100, 200, 300, 400}));
  ASSERT_EQ(curve.ms.size(), 4u);
  EXPECT_DOUBLE_EQ(curve.ms[0], 10);
  EXPECT_DOUBLE_EQ(curve.ms[1], 25);  // pooled
  EXPECT_DOUBLE_EQ(curve.ms[2], 25);
  EXPECT_DOUBLE_EQ(curve.ms[3], 50);
  EXPECT_EQ(CurveOf(Times({{100, {10}}})).ms.size(), 0u);  // eleven cells have no percentile
}

TEST(BudgetTest, LongerCellsWeighMoreWherePointsArePooled) {
  const Curve curve = CurveOf(Times({{1, {40, 40}}, {2, {10, 10, 10, 10}}}));
  EXPECT_DOUBLE_EQ(curve.ms[0], 20);
  EXPECT_DOUBLE_EQ(curve.ms[1], 20);
}

TEST(BudgetTest, TheReachIsInterpolatedAndNeverExtrapolated) {
  const Curve curve{{100, 200, 400}, {10, 20, 60}};
  const auto at = [&](double budget) { return LongestWithin(curve, budget).value(); };
  EXPECT_DOUBLE_EQ(at(15).tokens, 150);
  EXPECT_EQ(at(15).bound, Reach::Bound::kNone);
  EXPECT_DOUBLE_EQ(at(40).tokens, 300);
  EXPECT_DOUBLE_EQ(at(10).tokens, 100);  // the very time of the shortest
  EXPECT_EQ(at(9.9).bound, Reach::Bound::kShortest);
  EXPECT_EQ(at(9.9).tokens, 0);
  EXPECT_EQ(at(60).bound, Reach::Bound::kLongest);
  EXPECT_EQ(at(1e9).tokens, 400);
  EXPECT_FALSE(LongestWithin({}, 1));
}

TEST(BudgetTest, TheIntervalNeedsThreeClustersAndHasTheReach) {
  EXPECT_FALSE(UsableWithin(Times({{100, {10, 10}}, {200, {20, 20}}}, 2), 15)->low);
  TimesByLength times;
  for (int cluster = 0; cluster < 8; ++cluster) {
    for (const std::int64_t length : {100, 200, 400}) {
      const double ms = static_cast<double>(length) / 10 * (1 + 0.02 * cluster);
      times[length][std::to_string(cluster)] = {ms, ms * 1.01, ms * 1.02};
    }
  }
  const UsableContext usable = UsableWithin(times, 25).value();
  ASSERT_TRUE(usable.low && usable.high);
  EXPECT_LE(usable.low->tokens, usable.reach.tokens);
  EXPECT_GE(usable.high->tokens, usable.reach.tokens);
  EXPECT_LT(usable.low->tokens, usable.high->tokens);
  EXPECT_EQ(UsableWithin(times, 25)->low->tokens, usable.low->tokens);  // one seed
}

// Of so many stretches that differ by 10 %, whose cells differ by `within`, with a heavy tail.
double Coverage(int clusters, double within_log, int runs) {
  std::mt19937_64 random(3);
  std::normal_distribution<double> between(0, 0.1), within(0, within_log);
  std::student_t_distribution<double> tail(3);
  const auto draw = [&](int count) {
    TimesByLength times;
    for (int cluster = 0; cluster < count; ++cluster) {
      const double slow = between(random);
      for (const std::int64_t length : {100, 200, 400, 800}) {
        for (int repetition = 0; repetition < 3; ++repetition) {
          const double noise = within(random) + within_log * 0.5 * std::abs(tail(random));
          times[length][std::to_string(cluster)].push_back(static_cast<double>(length) *
                                                           std::exp(slow + noise));
        }
      }
    }
    return times;
  };
  const double truth = LongestWithin(CurveOf(draw(4000)), 300)->tokens;
  int covered = 0;
  for (int run = 0; run < runs; ++run) {
    const UsableContext usable = UsableWithin(draw(clusters), 300).value();
    covered += usable.low->tokens <= truth && truth <= usable.high->tokens ? 1 : 0;
  }
  return static_cast<double>(covered) / runs;
}

// Cells of one stretch are no independent cells: an interval that took them so would leave the
// truth out most of the time.
TEST(BudgetSimulation, TheIntervalCoversTheTruthWhereStretchesDiffer) {
  for (const int clusters : {8, 12, 20}) {
    for (const double within : {0.005, 0.05}) {
      const double coverage = Coverage(clusters, within, 400);
      std::printf("%d stretches, cells %.3f: covered %.3f\n", clusters, within, coverage);
      EXPECT_GE(coverage, 0.88);
    }
  }
}

class UsableTableTest : public ReportTest {
 protected:
  // A stretch's cells at one length, by both arms.
  void Add(const std::string& id, int stretch, std::int64_t history, double baseline_ms,
           double recycled_ms) {
    const Json where = {{"workload", std::to_string(history)},
                        {"history_tokens", history},
                        {"session", std::to_string(stretch)},
                        {"prompt_tokens", history + 32}};
    for (int repetition = 0; repetition < 6; ++repetition) {
      cells_.push_back(Base(id.c_str(), repetition, baseline_ms, where));
      cells_.push_back(
          Recycled(id.c_str(), repetition, recycled_ms, static_cast<int>(history), where));
      cells_.back()["entry"] = id;
    }
  }
  std::vector<Json> cells_;
};

TEST_F(UsableTableTest, RowsSayTheReachItsBoundsAndWhatSavingTakes) {
  Json description = Description();
  description["config"]["workload"] = "context";
  description["config"]["ttft_budgets_ms"] = {5, 150, 1000};
  description["fill"] = Json::array();
  for (int stretch = 0; stretch < 4; ++stretch) {
    for (const std::int64_t history : {100, 200, 400}) {
      const std::string id = std::to_string(history) + "/" + std::to_string(stretch);
      Add(id, stretch, history, static_cast<double>(history), static_cast<double>(history) / 2);
      description["fill"].push_back({{"model", "tiny"},
                                     {"precision", "fp32"},
                                     {"entry", id},
                                     {"tokens", history},
                                     {"prefill_ms", 30},
                                     {"save_ms", 20},
                                     {"bytes", 1},
                                     {"new_blocks", 1},
                                     {"shared_blocks", 0}});
    }
  }
  const Report report = ReportOf(cells_, description);
  const auto row = [&](const char* policy, int budget) {
    return Row(report, "usable_context", {{"policy", policy}, {"budget_ms", budget}});
  };
  EXPECT_EQ(row("baseline", 150).at("tokens"), 150);
  EXPECT_EQ(row("baseline", 150).at("tokens_low"), 150);
  EXPECT_EQ(row("embedding", 150).at("tokens"), 300);
  EXPECT_EQ(row("embedding", 150).at("tokens_with_saving"), 200);  // 100 ms of its own
  EXPECT_EQ(row("embedding", 150).at("gain"), 2);
  EXPECT_EQ(row("baseline", 5).at("bound"), "shortest tried");
  EXPECT_EQ(row("baseline", 1000).at("bound"), "longest tried");
  EXPECT_TRUE(row("embedding", 1000).at("gain").is_null());
  description["config"].erase("workload");
  EXPECT_TRUE(Rows(ReportOf(cells_, description), "usable_context").empty());
}

TEST_F(UsableTableTest, TurnsAreSummedAndTheLongestConversationEndsAtTheFirstLateTurn) {
  for (int session = 0; session < 3; ++session) {
    for (int turn = 1; turn <= 4; ++turn) {
      const std::string id = std::to_string(session) + "/" + std::to_string(turn);
      const Json where = {
          {"workload", "step"}, {"turn", turn}, {"session", std::to_string(session)}};
      for (int repetition = 0; repetition < 8; ++repetition) {
        cells_.push_back(Base(id.c_str(), repetition, 100.0 * turn, where));
        // Late at turn 2 and in time again after it.
        cells_.push_back(
            Recycled(id.c_str(), repetition, turn == 2 ? 300.0 : 50.0, 10 * turn, where));
      }
    }
  }
  Json description = Description();
  description["config"]["ttft_budgets_ms"] = 250;
  const Report report = ReportOf(cells_, description);
  const Json third = Row(report, "turns", {{"turn", 3}});
  EXPECT_EQ(third.at("window"), "step");
  EXPECT_EQ(third.at("conversations"), 3);
  EXPECT_EQ(third.at("baseline_ttft_ms"), 300);
  EXPECT_EQ(third.at("recycled_ttft_ms"), 50);
  EXPECT_EQ(third.at("baseline_sum_ms"), 600);
  EXPECT_EQ(third.at("recycled_sum_ms"), 400);
  EXPECT_EQ(Row(report, "conversations", {{"policy", "baseline"}}).at("turns"), 2);
  const Json recycled = Row(report, "conversations", {{"policy", "embedding"}});
  EXPECT_EQ(recycled.at("turns"), 1);
  EXPECT_EQ(recycled.at("in_time_share"), 0.75);
}

}  // namespace
}  // namespace kvr::report
