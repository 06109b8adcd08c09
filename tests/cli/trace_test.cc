// kvr trace: a trace's cache by arithmetic alone.
#include <gtest/gtest.h>

#include "cli_fixture.h"
#include "experiment/trace_fixture.h"

namespace kvr {
namespace {

using experiment::TraceLine;

class TraceCliTest : public CliTest {
 protected:
  void SetUp() override {
    WriteAndRename(folder_.path() / "t.jsonl", TraceLine(0, {1, 2}) + TraceLine(1, {1, 3}) +
                                                   TraceLine(2, {1, 2}) + TraceLine(9999, {1, 2}));
  }
};

TEST_F(TraceCliTest, PrintsEachRuleAtEachBudget) {
  const Result result =
      Run({"trace", "t.jsonl", "--budget", "2blocks", "--budget", "100%", "--json"});
  ASSERT_EQ(result.code, 0) << result.err;
  const Json rows = Json::parse(result.out).at("rows");
  ASSERT_EQ(rows.size(), 5u);
  EXPECT_EQ(rows[0].at("rule"), "lru");
  EXPECT_EQ(rows[0].at("saved_tokens"), 512 + 512 + 1023);
  EXPECT_EQ(rows[1].at("rule"), "belady");
  EXPECT_EQ(rows[1].at("saved_tokens"), 512 + 1023 + 1023);
  EXPECT_EQ(rows[1].at("evicted_blocks"), 1);
  EXPECT_EQ(rows[4].at("rule"), "infinite");
  EXPECT_EQ(rows[4].at("input_tokens"), 4 * 1024);
  const Result text = Run({"trace", "t.jsonl"});  // budgets of its own
  EXPECT_EQ(text.code, 0) << text.err;
  EXPECT_NE(text.out.find("infinite"), std::string::npos) << text.out;
}

TEST_F(TraceCliTest, OverTimeHasARowForEachBin) {
  const Result result = Run(
      {"trace", "t.jsonl", "--budget", "2blocks", "--over-time", "--bins", "5", "--format", "csv"});
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(CountLines(result.out), 1u + 3 * 5);
}

TEST_F(TraceCliTest, ABudgetInBytesNeedsATokensBytesWhichAModelTells) {
  EXPECT_EQ(Run({"trace", "t.jsonl", "--budget", "1MB"}).code, 2);
  const auto blocks = [&](const std::vector<std::string>& more) {
    std::vector<std::string> args = {"trace", "t.jsonl", "--budget", "1MB", "--json"};
    args.insert(args.end(), more.begin(), more.end());
    const Result result = Run(args);
    EXPECT_EQ(result.code, 0) << result.err;
    return Json::parse(result.out).at("rows").at(0);
  };
  EXPECT_EQ(blocks({"--bytes-per-token", "1000"}).at("budget_blocks"), 1);
  const std::string model = testing::TinyModel("tiny-gpt2");
  const Json fp32 = blocks({"--model", model});
  const Json fp16 = blocks({"--model", model, "--codec", "fp16"});
  EXPECT_EQ(fp16.at("codec"), "fp16");
  EXPECT_GE(fp16.at("budget_blocks"), fp32.at("budget_blocks").get<int>() * 2);
  EXPECT_EQ(Run({"trace", "t.jsonl", "--model", testing::TinyModel("tiny-bert")}).code, 2);
  EXPECT_EQ(Run({"trace", "t.jsonl", "--model", model, "--bytes-per-token", "9"}).code, 2);
  EXPECT_EQ(Run({"trace", "t.jsonl", "--codec", "fp16"}).code, 2);  // of which model?
}

TEST_F(TraceCliTest, BadUsageIsTwoAndAMissingFileThree) {
  EXPECT_EQ(Run({"trace"}).code, 2);
  EXPECT_EQ(Run({"trace", "absent.jsonl"}).code, 3);
  for (const char* budget : {"", "1", "lots", "-1blocks", "[1]"}) {
    EXPECT_EQ(Run({"trace", "t.jsonl", "--budget", budget}).code, 2) << budget;
  }
  EXPECT_EQ(Run({"trace", "t.jsonl", "--bins", "0"}).code, 2);
  EXPECT_EQ(Run({"trace", "t.jsonl", "--bytes-per-token", "0"}).code, 2);
  EXPECT_EQ(Run({"trace", "t.jsonl", "--format", "xml"}).code, 2);
  WriteAndRename(folder_.path() / "bad.jsonl", TraceLine(0, {1, 2}) + "{}\n");
  const Result bad = Run({"trace", "bad.jsonl"});
  EXPECT_EQ(bad.code, 2);
  EXPECT_NE(bad.err.find("bad.jsonl:2: field \"timestamp\" is missing"), std::string::npos)
      << bad.err;
}

}  // namespace
}  // namespace kvr
