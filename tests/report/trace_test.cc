#include "../../src/report/samples.h"
#include "report_fixture.h"

namespace kvr::report {
namespace {

TraceRow BinOf(const char* rule, std::optional<std::uint64_t> blocks, int bin,
               std::int64_t hit_tokens, std::int64_t evicted) {
  return {.trace = "t.jsonl",
          .rule = rule,
          .budget_blocks = blocks,
          .budget_bytes = blocks ? std::optional<std::uint64_t>(*blocks * 5120) : std::nullopt,
          .bytes_per_token = 10,
          .block_tokens = 512,
          .bin = bin,
          .start_s = 10.0 * bin,
          .end_s = 10.0 * (bin + 1),
          .requests = 2,
          .hit_requests = hit_tokens > 0 ? 1 : 0,
          .input_tokens = 1000,
          .hit_tokens = hit_tokens,
          .input_blocks = 4,
          .hit_blocks = hit_tokens / 512,
          .evicted_blocks = evicted,
          .held_blocks = 2 + bin};
}

std::vector<TraceRow> SomeRows() {
  return {BinOf("lru", 2, 0, 0, 1),         BinOf("lru", 2, 1, 200, 2),
          BinOf("belady", 2, 0, 100, 1),    BinOf("belady", 2, 1, 300, 1),
          BinOf("lru", 9, 0, 100, 0),       BinOf("lru", 9, 1, 400, 0),
          BinOf("belady", 9, 0, 100, 0),    BinOf("belady", 9, 1, 400, 0),
          BinOf("infinite", {}, 0, 100, 0), BinOf("infinite", {}, 1, 400, 0)};
}

Report Only(std::vector<Table> tables) {
  Report report;
  report.tables = std::move(tables);
  return report;
}

TEST(TraceTableTest, ARowSumsItsBins) {
  const Report report = Only(TraceTables(SomeRows()));
  EXPECT_EQ(Rows(report, "trace").size(), 5u);
  const Json lru = Row(report, "trace", {{"rule", "lru"}, {"budget_blocks", 2}});
  EXPECT_EQ(lru.at("requests"), 4);
  EXPECT_EQ(lru.at("input_tokens"), 2000);
  EXPECT_EQ(lru.at("saved_tokens"), 200);
  EXPECT_EQ(lru.at("hit_rate"), 0.1);
  EXPECT_EQ(lru.at("hit_request_share"), 0.25);
  EXPECT_EQ(lru.at("share_of_infinite"), 0.4);
  EXPECT_EQ(lru.at("evicted_blocks"), 3);
  EXPECT_EQ(lru.at("budget_bytes"), 10240);
  const Json infinite = Row(report, "trace", {{"rule", "infinite"}});
  EXPECT_TRUE(infinite.at("budget_blocks").is_null());
  EXPECT_EQ(infinite.at("share_of_infinite"), 1);
}

TEST(TraceTableTest, OverTimeThereIsARowForEachBin) {
  const Report report = Only(TraceTables(SomeRows()));
  EXPECT_EQ(Rows(report, "trace_bins").size(), 10u);
  const Json row =
      Row(report, "trace_bins", {{"rule", "belady"}, {"budget_blocks", 2}, {"start_s", 10}});
  EXPECT_EQ(row.at("saved_tokens"), 300);
  EXPECT_EQ(row.at("share_of_infinite"), 0.75);
  EXPECT_EQ(row.at("held_blocks"), 3);
  EXPECT_TRUE(Rows(Only(TraceTables({})), "trace").empty());
}

TEST_F(ReportTest, ARunsTraceIsShownBesideItsOwnModelOnly) {
  std::vector<Json> cells = Sample();
  Run run = ReadRun(Write(cells));
  run.trace = SomeRows();
  EXPECT_EQ(Rows(BuildReport({&run, 1}), "trace").size(), 5u);
  for (TraceRow& row : run.trace) row.model = "tiny";
  EXPECT_EQ(Rows(BuildReport({&run, 1}), "trace").size(), 5u);
  for (TraceRow& row : run.trace) row.model = "another";
  EXPECT_TRUE(Rows(BuildReport({&run, 1}), "trace").empty());
  run.trace = SomeRows();
  for (TraceRow row : SomeRows()) {
    row.codec = "int8";
    row.hit_tokens /= 2;
    run.trace.push_back(row);
  }
  const Report report = BuildReport({&run, 1});
  EXPECT_EQ(Row(report, "trace", {{"rule", "infinite"}, {"codec", "int8"}}).at("saved_tokens"),
            250);
  EXPECT_EQ(Row(report, "trace", {{"rule", "infinite"}, {"codec", nullptr}}).at("saved_tokens"),
            500);
}

TEST_F(ReportTest, AnotherDepthThanTheArithmeticsIsAnAlarm) {
  const auto alarms = [this](std::int64_t expected, int depth) {
    return ReportOf(
               {Base("t1", 0, 100),
                Recycled("t1", 0, 30, depth, {{"policy", "prefix"}, {"expected_depth", expected}})})
        .alarms;
  };
  EXPECT_TRUE(alarms(60, 60).empty());
  EXPECT_TRUE(alarms(0, 0).empty());
  EXPECT_TRUE(Says(alarms(61, 60), "ANOTHER DEPTH: 1 cells"));
  EXPECT_TRUE(Says(alarms(60, 61), "ANOTHER DEPTH: 1 cells"));
  EXPECT_TRUE(Says(alarms(60, 0), "ANOTHER DEPTH: 1 cells"));  // a miss is another depth
  EXPECT_TRUE(ReportOf(Sample()).alarms.empty());
}

}  // namespace
}  // namespace kvr::report
