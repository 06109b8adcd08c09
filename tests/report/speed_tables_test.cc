// The tables of times, and of arms that do the same work.
#include <cmath>

#include "report_fixture.h"

namespace kvr::report {
namespace {

Json Marked(Json cell, const Json& totals, int new_tokens) {
  cell.update({{"schema", 2}, {"totals_ms", totals}, {"new_tokens", new_tokens}});
  cell["tokens"] = std::vector<int>(static_cast<std::size_t>(new_tokens), 5);
  return cell;
}

TEST_F(ReportTest, PromptRowsCompareMediansWithTheOneBaseline) {
  const Report report = ReportOf(Sample());
  const Json t1 = Row(report, "prompts", {{"prompt_id", "t1"}, {"policy", "embedding"}});
  EXPECT_EQ(t1.at("baseline_ttft_ms"), 120);  // the free one's 90 is another schedule's
  EXPECT_EQ(t1.at("baseline"), "block");
  EXPECT_EQ(t1.at("recycled_ttft_ms"), 40);
  EXPECT_EQ(t1.at("ttft_speedup"), 3);
  EXPECT_EQ(t1.at("new_tokens"), 3);
  EXPECT_EQ(t1.at("baseline_total_ms"), 140);
  EXPECT_EQ(t1.at("recycled_total_ms"), 60);
  EXPECT_EQ(t1.at("reuse_depth"), 60);
  EXPECT_EQ(t1.at("similarity"), 0.9);
  EXPECT_EQ(t1.at("output_cosine"), 1.0);
  EXPECT_EQ(t1.at("exact_to_the_end"), true);
  EXPECT_TRUE(t1.at("exact_at_first_token").is_null());
  EXPECT_EQ(t1.at("limited_by"), "end_of_entry");
  const Json t2 = Row(report, "prompts", {{"prompt_id", "t2"}});
  EXPECT_EQ(t2.at("baseline"), "block");
  EXPECT_EQ(t2.at("ttft_speedup"), 2.0);
  EXPECT_TRUE(t2.at("baseline_total_ms").is_null());  // of one cell
  EXPECT_TRUE(t2.at("similarity").is_null());
}

TEST_F(ReportTest, AggregatesCountTheMissesAndTakeTheGeometricMean) {
  const Report report = ReportOf(Sample());
  const Json row = Row(report, "workloads", {{"workload", "extends"}, {"policy", "embedding"}});
  EXPECT_EQ(row.at("prompts"), 2);
  EXPECT_EQ(row.at("cells"), 4);
  EXPECT_EQ(row.at("hits"), 4);
  EXPECT_EQ(row.at("hit_depth_mean"), 55);  // (3 * 60 + 40) / 4
  EXPECT_EQ(row.at("reused_share"), 0.55);  // 220 of 400
  EXPECT_NEAR(row.at("ttft_speedup").get<double>(), std::sqrt(3.0 * 2.0), 1e-12);
  EXPECT_TRUE(row.at("ttft_speedup_low").is_null());  // two prompts make no interval
  const Json miss = Row(report, "workloads", {{"workload", "unrelated"}});
  EXPECT_NEAR(miss.at("ttft_speedup").get<double>(), 60.0 / 64.0, 1e-12);
  EXPECT_TRUE(miss.at("ttft_speedup_of_hits").is_null());
  EXPECT_TRUE(miss.at("hit_depth_mean").is_null());
  EXPECT_EQ(miss.at("reused_share"), 0);
  const Json rest =
      Row(report, "workloads",
          {{"workload", "all but control"}, {"match", "token"}, {"policy", "embedding"}});
  EXPECT_EQ(rest.at("prompts"), 2);
}

// Logs of ratios 2, 2, 4, 4, 8, 8: mean log 4, standard error log 2 * sqrt(0.8 / 6), t of 5
// degrees.
TEST_F(ReportTest, IntervalsAreStudentsOnLogRatios) {
  std::vector<Json> cells;
  for (int i = 0; i < 6; ++i) {
    const std::string id = "t" + std::to_string(i);
    cells.push_back(Base(id.c_str(), 0, 160));
    cells.push_back(Recycled(id.c_str(), 0, 80 >> (i / 2), 60));
  }
  const Json row = Row(ReportOf(cells), "workloads", {{"workload", "extends"}});
  EXPECT_EQ(row.at("clusters"), 6);
  EXPECT_NEAR(row.at("ttft_speedup").get<double>(), 4, 1e-12);
  const double half = 2.570582 * std::log(2) * std::sqrt(0.8 / 6);
  EXPECT_NEAR(row.at("ttft_speedup_low").get<double>(), 4 * std::exp(-half), 1e-5);
  EXPECT_NEAR(row.at("ttft_speedup_high").get<double>(), 4 * std::exp(half), 1e-5);
  // Prompts that share a cached parent are one cluster: three of them, and t of 2 degrees.
  for (int i = 0; i < 12; ++i) cells[i]["cached_parent"] = "p" + std::to_string(i / 4);
  const Json shared = Row(ReportOf(cells), "workloads", {{"workload", "extends"}});
  EXPECT_EQ(shared.at("clusters"), 3);
  EXPECT_NEAR(shared.at("ttft_speedup_high").get<double>(),
              4 * std::exp(4.302653 * std::log(2) / std::sqrt(3)), 1e-4);
}

TEST_F(ReportTest, PhasesAreMediansOverCells) {
  const Report report = ReportOf(Sample());
  const Json row = Row(report, "phases", {{"workload", "extends"}, {"policy", "embedding"}});
  EXPECT_EQ(row.at("ttft_median_ms"), 45);       // 30, 40, 50, 100
  EXPECT_TRUE(row.at("ttft_p95_ms").is_null());  // of four cells
  EXPECT_EQ(row.at("embed_median_ms"), 3);
  EXPECT_EQ(row.at("decode_per_token_median_ms"), 10);  // 20 ms for two tokens after the first
  const Json free =
      Row(report, "phases", {{"workload", "extends"}, {"policy", "baseline"}, {"match", "free"}});
  EXPECT_EQ(free.at("ttft_median_ms"), 90);
  EXPECT_TRUE(free.at("ttft_p95_ms").is_null());
  EXPECT_TRUE(free.at("decode_per_token_median_ms").is_null());
}

TEST_F(ReportTest, OneControlPromptHasNoVerdict) {
  const Json row = Row(ReportOf(Sample()), "no_overlap");
  EXPECT_EQ(row.at("prompts"), 1);
  EXPECT_EQ(row.at("hits"), 0);
  EXPECT_EQ(row.at("same_tokens_share"), 1);
  EXPECT_NEAR(row.at("prefill_difference").get<double>(), 63.0 / 60 - 1, 1e-12);
  EXPECT_TRUE(row.at("prefill_verdict").is_null());
  EXPECT_TRUE(row.at("decode_difference").is_null());  // of one decoded cell
  EXPECT_EQ(row.at("overhead_ms"), 4);
  EXPECT_EQ(row.at("overhead_share"), 0.0625);  // 4 of 64
}

TEST_F(ReportTest, BaselineAgainstBaseline) {
  const Json row = Row(ReportOf(Sample()), "baselines", {{"what", "second baseline"}});
  EXPECT_EQ(row.at("cells"), 1);
  EXPECT_EQ(row.at("exact_share"), 1);
  EXPECT_EQ(row.at("max_abs_logit_diff"), 0);
  EXPECT_NEAR(row.at("ttft_ratio").get<double>(), 60.0 / 66, 1e-12);
  EXPECT_NEAR(row.at("ttft_difference").get<double>(), 66.0 / 60 - 1, 1e-12);
}

TEST_F(ReportTest, TotalsAreOfThreeDecodedCellsOrNone) {
  std::vector<Json> cells;
  for (int i = 0; i < 3; ++i) {
    cells.push_back(Base("t1", i, 100));
    cells.push_back(Recycled("t1", i, 50, 60));
  }
  cells.push_back(Recycled("t1", 3, 10, 60, {{"full", false}}));
  const Report report = ReportOf(cells);
  const Json row = Row(report, "prompts");
  EXPECT_EQ(row.at("recycled_ttft_ms"), 50);
  EXPECT_EQ(row.at("recycled_total_ms"), 70);
  EXPECT_NEAR(row.at("total_speedup").get<double>(), 120.0 / 70, 1e-12);
  EXPECT_FALSE(Says(report.warnings, "totals are not given"));
  cells[5]["full"] = false;
  EXPECT_TRUE(Row(ReportOf(cells), "prompts").at("total_speedup").is_null());
  EXPECT_TRUE(Says(ReportOf(cells).warnings, "totals are not given 1 times"));
}

// The baseline goes on to 4 tokens, the second way of reuse stops at 2: compared at 2.
TEST_F(ReportTest, TotalsAreComparedAtMarksThatBothArmsReached) {
  std::vector<Json> cells;
  for (int i = 0; i < 3; ++i) {
    cells.push_back(Marked(Base("t1", i, 100), {{"2", 110}, {"4", 130}}, 4));
    cells.push_back(Marked(Recycled("t1", i, 50, 60), {{"2", 60}, {"4", 80}}, 4));
    cells.push_back(Marked(Recycled("t1", i, 45, 60, {{"match", "block"}}), {{"2", 55}}, 2));
    cells[cells.size() - 3]["total_ms"] = 130;
    cells[cells.size() - 2]["total_ms"] = 80;
    cells[cells.size() - 1]["total_ms"] = 55;
  }
  const Report report = ReportOf(cells);
  EXPECT_TRUE(report.alarms.empty());
  const Json block = Row(report, "prompts", {{"match", "block"}});
  EXPECT_EQ(block.at("new_tokens"), 2);
  EXPECT_EQ(block.at("total_speedup"), 2);
  EXPECT_EQ(Row(report, "prompts", {{"match", "token"}}).at("total_speedup"), 130.0 / 80);
  const Json two = {{"match", "token"}, {"new_tokens", 2}, {"workload", "extends"}};
  EXPECT_NEAR(Row(report, "totals", two).at("total_speedup").get<double>(), 110.0 / 60, 1e-12);
  EXPECT_TRUE(Rows(report, "totals", {{"match", "block"}, {"new_tokens", 4}}).empty());
}

TEST_F(ReportTest, ControlsAreEquivalentOrDifferOrUndecided) {
  std::vector<Json> cells = ControlCells();
  const Report report = ReportOf(cells);
  const Json null = Row(report, "no_overlap", {{"policy", "off"}});
  EXPECT_EQ(null.at("prefill_verdict"), "equivalent");
  EXPECT_LT(null.at("prefill_detectable").get<double>(), 0.01);
  EXPECT_GT(null.at("prefill_power_at_5").get<double>(), 0.99);
  const Json recycled = Row(report, "no_overlap", {{"policy", "embedding"}});
  EXPECT_EQ(recycled.at("prefill_verdict"), "differs");
  EXPECT_EQ(recycled.at("decode_verdict"), "equivalent");
  EXPECT_GT(recycled.at("prefill_low").get<double>(), 0.08);
  const Json row = Row(report, "baselines", {{"what", "null variant"}});
  EXPECT_EQ(row.at("ttft_verdict"), "equivalent");
  EXPECT_NEAR(row.at("ttft_ratio").get<double>(), 1, 1e-5);
  EXPECT_EQ(Rows(report, "workloads", {{"policy", "off"}}).size(), 1u);
  EXPECT_TRUE(Says(report.claims, "The null variant"));
  EXPECT_TRUE(Says(report.claims, "equivalent within 3 %"));
  for (std::size_t i = 1; i < cells.size(); i += 3) {
    cells[i]["prefill_ms"] = cells[i]["prefill_ms"].get<double>() * (i % 2 == 0 ? 1.3 : 0.8);
  }
  EXPECT_EQ(Row(ReportOf(cells), "no_overlap", {{"policy", "off"}}).at("prefill_verdict"),
            "undecided");
}

TEST_F(ReportTest, TheRunsScheduleIsTheBaselines) {
  Json description = Description();
  description["models"][0]["baseline"] = {
      {"schedule", "free"}, {"free_chunk_tokens", 256}, {"block_ms", {9.0}}, {"free_ms", {8.0}}};
  const Json row = Row(ReportOf(Sample(), description), "prompts",
                       {{"prompt_id", "t1"}, {"policy", "embedding"}});
  EXPECT_EQ(row.at("baseline"), "free");
  EXPECT_EQ(row.at("baseline_ttft_ms"), 90);
}

TEST_F(ReportTest, OnePromptHasNoVerdict) {
  const Json row = Row(ReportOf({Base("t1", 0, 100, {{"workload", "unrelated"}}),
                                 Recycled("t1", 0, 104, 0, {{"workload", "unrelated"}})}),
                       "no_overlap");
  EXPECT_TRUE(row.at("prefill_verdict").is_null());
  EXPECT_TRUE(row.at("prefill_detectable").is_null());
  EXPECT_NEAR(row.at("prefill_difference").get<double>(), 0.0, 1e-12);
}

TEST_F(ReportTest, WithoutABaselineThereIsNoSpeedup) {
  const Report report =
      ReportOf({Base("t1", 0, 100), Recycled("t1", 0, 50, 60), Recycled("t2", 0, 50, 60)});
  const Json row = Row(report, "prompts", {{"prompt_id", "t2"}});
  EXPECT_TRUE(row.at("baseline_ttft_ms").is_null());
  EXPECT_TRUE(row.at("baseline").is_null());
  EXPECT_TRUE(row.at("ttft_speedup").is_null());
  EXPECT_EQ(Row(report, "workloads", {{"workload", "extends"}}).at("ttft_speedup"), 2);
  EXPECT_TRUE(Says(report.warnings, "1 prompts have recycled cells and no baseline"));
}

}  // namespace
}  // namespace kvr::report
