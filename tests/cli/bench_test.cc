// kvr bench from the outside; what it measures: tests/experiment/bench_test.cc.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <algorithm>

#include "cli_fixture.h"
#include "kvr/base/json.h"
#include "kvr/experiment/bench_busy.h"
#include "testing.h"

namespace kvr {
namespace {

namespace fs = std::filesystem;

TEST_F(CliTest, BenchComparesPhasesWithBoundsAndLeavesNothingBehind) {
  const Result result = RunTiny({"bench", "--repetitions", "1", "--json"});
  ASSERT_EQ(result.code, 0) << result.err;
  const Json bench = Json::parse(result.out);
  EXPECT_GT(bench["limits"]["read_gb_per_s"][0], 0.0);
  std::vector<std::string> phases;
  for (const Json& row : bench["rows"]) {
    phases.push_back(row["phase"]);
    EXPECT_GT(row["measured"], 0.0) << row;
    if (!row["bound"].is_null()) {
      EXPECT_GT(row["ratio"], 0.0) << row;
    }
  }
  for (const char* phase : {"model load", "prefill", "decode", "recycled TTFT", "restore"}) {
    EXPECT_NE(std::find(phases.begin(), phases.end(), phase), phases.end()) << phase;
  }
  EXPECT_FALSE(fs::exists(folder_.path() / "cache") &&
               fs::directory_iterator(folder_.path() / "cache") != fs::directory_iterator());
}

TEST_F(CliTest, BenchMeasuresWhatBusyProcessesLeave) {
  const Result result = RunTiny({"bench", "--busy", "1,3", "--repetitions", "2", "--json"});
  ASSERT_EQ(result.code, 0) << result.err;
  const Json bench = Json::parse(result.out);
  ASSERT_EQ(bench["rows"].size(), 10U) << bench;  // five figures
  for (const Json& row : bench["rows"]) {
    EXPECT_TRUE(row["loops"] == 1 || row["loops"] == 3) << row;
    EXPECT_GT(row["quiet"], 0.0) << row;
    EXPECT_GT(row["measured"], 0.0) << row;
    EXPECT_EQ(row["shares"].size(), 2U) << row;
    EXPECT_EQ(row["fair_share"],
              experiment::FairShare(bench["environment"]["threads"], row["loops"], bench["cores"]));
  }
  EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1) << "a busy loop is left";
  EXPECT_EQ(RunTiny({"bench", "--busy", "0"}).code, 2);
  EXPECT_EQ(RunTiny({"bench", "--busy", "1", "--cases", "-", "--json"}, "[]").code, 2);
}

TEST_F(CliTest, BenchRunsGivenCasesAndRecycledOnesGiveTheBaselinesTokens) {
  Json tokens = Json::array();
  for (int i = 0; i < 45; ++i) tokens.push_back((i * 37 + 11) % 200);
  const Json cases = {{{"what", "prefill"}, {"tokens", tokens}, {"new_tokens", 3}},
                      {{"what", "decode"}, {"tokens", {7, 8}}, {"new_tokens", 4}},
                      {{"what", "recycled"}, {"tokens", tokens}, {"cached", 40}, {"new_tokens", 3}},
                      {{"what", "embed"}, {"text", "The harbour master"}}};
  const Result result =
      RunTiny({"bench", "--cases", "-", "--repetitions", "2", "--json"}, cases.dump());
  ASSERT_EQ(result.code, 0) << result.err;
  const Json bench = Json::parse(result.out);
  ASSERT_EQ(bench["cases"].size(), 4U);
  const Json& baseline = bench["cases"][0];
  const Json& recycled = bench["cases"][2];
  EXPECT_EQ(baseline["tokens"].size(), 3U);
  EXPECT_EQ(baseline["reuse_depth"], 0);
  EXPECT_EQ(recycled["tokens"], baseline["tokens"]);
  EXPECT_EQ(recycled["reuse_depth"], 40);
  EXPECT_GT(recycled["restored_bytes"], 0);
  for (const char* phase : {"ttft", "restore", "prefill", "decode"}) {
    ASSERT_EQ(recycled["ms"][phase].size(), 2U) << phase;
    EXPECT_GT(recycled["ms"][phase][0], 0.0) << phase;
  }
  EXPECT_EQ(bench["cases"][1]["tokens"].size(), 4U);
  const std::vector<float> embedding = bench["cases"][3]["embedding"];
  float norm = 0;
  for (const float value : embedding) norm += value * value;
  EXPECT_NEAR(norm, 1, 1e-4);
  EXPECT_EQ(bench["cases"][3]["ms"]["embed"].size(), 2U);
  EXPECT_FALSE(fs::exists(folder_.path() / "cache") &&
               fs::directory_iterator(folder_.path() / "cache") != fs::directory_iterator());

  EXPECT_EQ(RunTiny({"bench", "--cases", "-"}, cases.dump()).code, 2);
  EXPECT_EQ(RunTiny({"bench", "--cases", "-", "--json"}, "[{}]").code, 2);
  EXPECT_EQ(RunTiny({"bench", "--cases", "absent.json", "--json"}).code, 3);
}

}  // namespace
}  // namespace kvr
