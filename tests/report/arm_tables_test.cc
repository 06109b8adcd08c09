// Tables of every arm, and p-values that are adjusted over a table's rows.
#include <cmath>

#include "kvr/record/holm.h"
#include "report_fixture.h"
#include "simulated_run.h"

namespace kvr::report {
namespace {

// Times 1, 2, ... of one prompt's baseline.
std::vector<Json> Counted(int cells) {
  std::vector<Json> lines;
  for (int i = 0; i < cells; ++i) lines.push_back(Base("t1", i, i + 1));
  return lines;
}

TEST_F(ReportTest, APercentileNeedsACellOfItsOwn) {
  const auto of = [&](int cells, const char* key) {
    return Row(ReportOf(Counted(cells)), "percentiles",
               {{"workload", "extends"}, {"phase", "TTFT"}})
        .at(key);
  };
  EXPECT_EQ(of(1, "p50_ms"), 1);
  for (const auto& [key, needed] :
       std::vector<std::pair<const char*, int>>{{"p90_ms", 11}, {"p95_ms", 21}, {"p99_ms", 101}}) {
    EXPECT_TRUE(of(needed - 1, key).is_null()) << key;
    EXPECT_NEAR(of(needed, key).get<double>(), needed - 1, 1e-9) << key;
  }
  EXPECT_EQ(of(101, "max_ms"), 101);
  EXPECT_EQ(of(101, "cells"), 101);
}

TEST_F(ReportTest, PercentilesAreOfEveryPhaseThatTheArmHas) {
  const Report report = ReportOf(Sample());
  const auto phases = [&](const Json& wanted) {
    std::vector<std::string> names;
    for (const Json& row : Rows(report, "percentiles", wanted)) names.push_back(row.at("phase"));
    return names;
  };
  EXPECT_EQ(phases({{"workload", "extends"}, {"policy", "embedding"}}),
            (std::vector<std::string>{"embed", "lookup", "restore", "prefill", "decode",
                                      "decode/token", "TTFT", "total"}));
  // The free baseline stops at its first token, and its cells have the other phases as 0.
  const Json free = {{"workload", "extends"}, {"policy", "baseline"}, {"match", "free"}};
  for (const std::string& name : phases(free)) {
    EXPECT_NE(name, "decode");
    EXPECT_NE(name, "total");
  }
  Json wanted = free;
  wanted["phase"] = "TTFT";
  EXPECT_EQ(Row(report, "percentiles", wanted).at("p50_ms"), 90);
}

TEST_F(ReportTest, PeakMemoryIsByArmAndOnlyWhereItIsKnown) {
  constexpr std::int64_t kMiB = 1 << 20;
  std::vector<Json> cells;
  for (int i = 0; i < 3; ++i) {
    cells.push_back(Base("t1", i, 100, {{"peak_memory_bytes", (700 + i) * kMiB}}));
    cells.push_back(Recycled("t1", i, 50, 60, {{"peak_memory_bytes", (720 + 10 * i) * kMiB}}));
    cells.push_back(Null("t1", i, 100, {{"peak_memory_bytes", nullptr}}));
  }
  cells.push_back(
      Recycled("t1", 0, 50, 60, {{"asked_page_cache", "cold"}, {"peak_memory_bytes", 900 * kMiB}}));
  const Report report = ReportOf(cells);
  const Json base = Row(report, "memory", {{"policy", "baseline"}});
  EXPECT_EQ(base.at("peak_memory_bytes_median"), 701 * kMiB);
  EXPECT_EQ(base.at("peak_memory_bytes_max"), 702 * kMiB);
  const Json warm = Row(report, "memory", {{"policy", "embedding"}, {"asked_page_cache", "warm"}});
  EXPECT_EQ(warm.at("peak_memory_bytes_median"), 730 * kMiB);
  EXPECT_EQ(warm.at("peak_memory_bytes_max"), 740 * kMiB);
  const Json null = Row(report, "memory", {{"policy", "off"}});
  EXPECT_EQ(null.at("cells"), 3);
  EXPECT_EQ(null.at("known"), 0);
  EXPECT_TRUE(null.at("peak_memory_bytes_max").is_null());
  EXPECT_NE(Render(TableNamed(report, "memory"), "table").find("701.0"), std::string::npos);
}

// Warm and cold restores are not averaged into one number.
TEST_F(ReportTest, DepthAndRestoreKeepTheStatesOfThePageCacheApart) {
  std::vector<Json> cells = {Base("t1", 0, 100)};
  for (const char* state : {"warm", "cold"}) {
    const double ms = state == std::string("warm") ? 25 : 50;
    cells.push_back(
        Recycled("t1", 0, ms, 60, {{"asked_page_cache", state}, {"restore_ms", ms / 10}}));
  }
  const Report report = ReportOf(cells);
  EXPECT_EQ(
      Row(report, "depth", {{"depth", "1-63"}, {"asked_page_cache", "warm"}}).at("ttft_speedup"),
      4);
  EXPECT_EQ(
      Row(report, "depth", {{"depth", "1-63"}, {"asked_page_cache", "cold"}}).at("ttft_speedup"),
      2);
  EXPECT_EQ(Row(report, "codecs").at("restore_median_ms"), 2.5);
  EXPECT_NE(Render(TableNamed(report, "depth"), "table").find("cold"), std::string::npos);
  cells.pop_back();
  EXPECT_EQ(Render(TableNamed(ReportOf(cells), "depth"), "table").find("warm"), std::string::npos);
}

// What the columns say is what Holm's method makes of all rows' own p-values.
void ExpectAdjusted(const std::vector<Json>& rows, const std::string& key) {
  std::vector<double> own;
  for (const Json& row : rows) {
    if (row.at(key + "_low").is_null()) continue;
    // The middle of the interval in logs over its standard error.
    const double low = std::log(row.at(key + "_low").get<double>());
    const double high = std::log(row.at(key + "_high").get<double>());
    const double df = 5;  // six prompts, each its own cluster
    own.push_back(PValue({.mean = (low + high) / 2,
                          .standard_error = (high - low) / 2 / StudentQuantile(0.975, df),
                          .df = df})
                      .value());
  }
  ASSERT_GE(own.size(), 2u);
  const std::vector<double> adjusted = HolmAdjusted(own);
  std::size_t i = 0;
  for (const Json& row : rows) {
    if (row.at(key + "_low").is_null()) {
      EXPECT_TRUE(row.at(key + "_p_holm").is_null());
    } else {
      EXPECT_NEAR(row.at(key + "_p_holm").get<double>(), adjusted[i++], 1e-9);
    }
  }
}

// Six prompts, twice as fast by one policy, barely slower by another, unsure by the null variant.
std::vector<Json> ThreeRows() {
  std::vector<Json> cells;
  for (int p = 0; p < 6; ++p) {
    const std::string id = "t" + std::to_string(p);
    const double swing = p % 2 == 0 ? 1.01 : 0.99;
    for (int i = 0; i < 3; ++i) {
      cells.push_back(Base(id.c_str(), i, 100));
      cells.push_back(Null(id.c_str(), i, 100 * (1 + (swing - 1) * (p + 1)), Json::object()));
      cells.push_back(Recycled(id.c_str(), i, 50 * swing, 60));
      cells.push_back(Recycled(id.c_str(), i, 101.2 * swing, 60, {{"policy", "prefix"}}));
    }
  }
  return cells;
}

TEST_F(ReportTest, PValuesAreAdjustedOverTheRowsOfTheirTable) {
  const Report report = ReportOf(ThreeRows());
  ExpectAdjusted(Rows(report, "workloads"), "ttft_speedup");
  ExpectAdjusted(Rows(report, "workloads"), "total_speedup");
  ExpectAdjusted(Rows(report, "depth"), "ttft_speedup");
  const Json row = Row(report, "workloads", {{"workload", "extends"}, {"policy", "embedding"}});
  EXPECT_LT(row.at("ttft_speedup_p_holm"), 0.001);
  EXPECT_NE(Render(TableNamed(report, "workloads"), "table").find("<0.001"), std::string::npos);
}

// Eight ways of reuse on control prompts that are slower by one and a half per cent, give or take:
// each alone would be said to differ, and together they are not.
TEST_F(ReportTest, ADifferenceIsSaidOnlyWhereItHoldsForTheWholeTable) {
  const auto cells_of = [](int ways) {
    std::vector<Json> cells;
    for (int p = 0; p < 6; ++p) {
      const std::string id = "u" + std::to_string(p);
      const Json group = {{"workload", "unrelated"}};
      cells.push_back(Base(id.c_str(), 0, 100, group));
      for (int way = 0; way < ways; ++way) {
        const double ms = 103 * (p % 2 == 0 ? 1.025 : 0.975);
        cells.push_back(
            Recycled(id.c_str(), 0, ms, 0,
                     {{"workload", "unrelated"}, {"candidates", way + 1}, {"prefill_ms", ms}}));
      }
    }
    return cells;
  };
  const Json alone = Row(ReportOf(cells_of(1)), "no_overlap");
  EXPECT_EQ(alone.at("prefill_verdict"), "differs");
  EXPECT_LT(alone.at("prefill_p_holm"), 0.05);
  EXPECT_TRUE(Says(ReportOf(cells_of(1)).claims, "%), differs; it could"));
  EXPECT_TRUE(Says(ReportOf(cells_of(8)).claims, "%), undecided; it could"));
  const std::vector<Json> together = Rows(ReportOf(cells_of(8)), "no_overlap");
  ASSERT_EQ(together.size(), 8u);
  for (const Json& row : together) {
    EXPECT_EQ(row.at("prefill_verdict"), "undecided");
    EXPECT_NEAR(row.at("prefill_p_holm").get<double>(),
                std::min(1.0, 8 * alone.at("prefill_p_holm").get<double>()), 1e-12);
  }
}

}  // namespace
}  // namespace kvr::report
