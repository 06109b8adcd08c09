// The workload "trace": its settings, and that what really runs has the depths of the arithmetic.
#include <gtest/gtest.h>

#include "kvr/base/file.h"
#include "kvr/experiment/prompts.h"
#include "kvr/experiment/sweep.h"
#include "kvr/experiment/trace_workload.h"
#include "testing.h"
#include "trace_fixture.h"

namespace kvr::experiment {
namespace {

using testing::TinyModel;

class TraceSweepTest : public ::testing::Test {
 protected:
  TraceSweepTest() {
    WriteTrace(2);
    config_ = {{"models", TinyModel("tiny-gpt2")},
               {"workload", "trace"},
               {"trace", "t.jsonl"},
               {"budgets", {"50%", "6blocks"}},
               {"bins", 3},
               {"sample", {{"requests", 5}, {"block_tokens", 12}, {"max_tokens", 60}}},
               {"policies", "prefix"},
               {"match", {"token", "block", "whole"}},
               {"max_new_tokens", 2},
               {"repetitions", 1},
               {"warmups", 0},
               {"stop_at_eos", false},
               {"threads", 1},
               {"block_tokens", 16}};
  }

  // Conversation 10 has three turns, the third equal to the second; 20 has two.
  void WriteTrace(int last) const {
    WriteAndRename(folder_.path() / "t.jsonl",
                   TraceLine(0, {1, 10, 11}, 100) + TraceLine(1000, {1, 20}) +
                       TraceLine(2000, {1, 10, 12, 13}, 200) + TraceLine(3000, {1, 30}, 9) +
                       TraceLine(4000, {1, 20, 21}, last) + TraceLine(5000, {1, 10, 12, 13}, 200));
  }

  Config Read() const {
    WriteAndRename(folder_.path() / "c.json", config_.dump());
    return ReadConfig(folder_.path() / "c.json", {});
  }
  std::string Refusal() const {
    std::string message;
    KVR_EXPECT_ERROR(CheckArchives(Read()), kInvalidInput, message);
    return message;
  }
  record::Run Sweep(bool resume = false) const {
    const Config config = Read();
    CheckArchives(config);
    RunSweep(config, {.folder = folder_.path() / "r", .resume = resume});
    return record::ReadRun(folder_.path() / "r");
  }

  testing::TempFolder folder_;
  Json config_;
};

TEST_F(TraceSweepTest, ASampledRequestIsAPromptOfItsSessionAndIsCachedForLaterOnes) {
  const Config config = Read();
  ASSERT_EQ(config.test_prompts.size(), 5u);
  ASSERT_EQ(config.cache_prompts.size(), 5u);
  EXPECT_EQ(config.test_prompts[2].id, "r2");
  EXPECT_EQ(config.cache_prompts[2].id, "r2");
  EXPECT_EQ(config.test_prompts[2].session, "s10");
  EXPECT_EQ(config.test_prompts[2].turn, 2);
  EXPECT_EQ(config.trace->arithmetic.budgets.size(), 2u);
  EXPECT_EQ(config.trace->sample.too_long, 0u);
}

TEST_F(TraceSweepTest, WhatRunsHasTheDepthsOfTheArithmetic) {
  const record::Run run = Sweep();
  int hits = 0;
  std::vector<std::int64_t> token_depths;
  for (const record::Cell& cell : run.cells) {
    const bool promised = cell.recycled() && cell.policy == "prefix" && cell.match != "whole";
    ASSERT_EQ(cell.expected_depth.has_value(), promised) << cell.policy;
    if (!promised) continue;
    EXPECT_EQ(cell.reuse_depth, cell.expected_depth) << cell.prompt_id << " " << *cell.match;
    EXPECT_EQ(cell.exact_claimed && cell.hit(), cell.hit());
    EXPECT_TRUE(cell.fidelity && cell.fidelity->exact) << cell.prompt_id;
    if (cell.hit()) ++hits;
    if (cell.match == "block") {
      EXPECT_EQ(cell.reuse_depth % 16, 0);
    }
    if (cell.match == "token" && cell.prompt_id == "r5") {
      EXPECT_EQ(cell.reuse_depth, cell.prompt_tokens - 1);  // the whole prompt was there
      EXPECT_EQ(cell.history_tokens, cell.prompt_tokens);
      EXPECT_EQ(cell.cached_parent, "r2");
    }
    if (cell.match == "token" && cell.prompt_id == "r4") {
      EXPECT_EQ(cell.reuse_depth, 24);
    }
  }
  EXPECT_EQ(hits, 4 + 3);  // the first sees nothing; the one hash id of r1 is no block of 16 tokens
}

TEST_F(TraceSweepTest, TheArithmeticOfTheWholeTraceIsInTheRun) {
  config_["match"] = "token";
  config_["codecs"] = {"fp32", "int8"};
  const record::Run run = Sweep();
  ASSERT_EQ(run.trace.size(), 2u * (2 * 2 + 1) * 3);  // codecs, budgets, rules, infinite, bins
  std::int64_t requests = 0, saved = 0;
  for (const record::TraceRow& row : run.trace) {
    EXPECT_EQ(row.model, run.models.at(0).name);
    EXPECT_EQ(row.bytes_per_token,
              static_cast<std::uint64_t>(run.models[0].stored_bytes_per_token.at(*row.codec)));
    if (row.rule == "infinite" && row.codec == "int8") {
      requests += row.requests;
      saved += row.hit_tokens;
    }
  }
  EXPECT_EQ(requests, 6);  // at the trace's own scale, not the sample's
  EXPECT_EQ(saved, 512 + 1024 + 512 + 1024 + (3 * 512 + 200 - 1));
}

TEST_F(TraceSweepTest, AnotherTraceIsNoPartOfARunThatGoesOn) {
  (void)Sweep();
  EXPECT_EQ(Sweep(/*resume=*/true).trace.size(), 5u * 3);
  WriteTrace(200);  // one block's length is another
  std::string message;
  KVR_EXPECT_ERROR((void)Sweep(/*resume=*/true), kInvalidInput, message);
  EXPECT_NE(message.find("other prompts"), std::string::npos) << message;
}

TEST_F(TraceSweepTest, AMistakeNamesItsPlace) {
  const auto refused = [this](const Json& changes, const std::string& place) {
    const Json before = config_;
    config_.update(changes);
    const std::string message = Refusal();
    EXPECT_NE(message.find(place), std::string::npos) << place << " in: " << message;
    config_ = before;
  };
  refused({{"budgets", "lots"}}, "c.json:/budgets: found \"lots\"");
  refused({{"budgets", "1B"}}, "holds no block");
  refused({{"bins", 0}}, "/bins");
  refused({{"sample", {{"request", 5}}}}, "/sample/request: is no known setting");
  refused({{"sample", {{"block_tokens", 0}}}}, "/sample/block_tokens");
  refused({{"sample", {{"block_tokens", 513}}}}, "/sample/block_tokens");
  refused({{"sample", {{"max_tokens", 3}}}}, "no session");
  refused({{"sample", {{"requests", 0}}}}, "/sample/requests");
  refused({{"sample", 5}}, "/sample");
  refused({{"cache_prompts", "x.jsonl"}}, "cache_prompts");
  refused({{"template", "chat"}}, "/template: is no known setting");
  refused({{"policies", "embedding"}, {"encoder", TinyModel("tiny-bert")}}, "use prefix");
  refused({{"sample", {{"block_tokens", 512}, {"max_tokens", 5000}}}}, "max_tokens");
  std::string message;
  config_["trace"] = "absent.jsonl";
  KVR_EXPECT_ERROR((void)Read(), kNotFound, message);
  WriteAndRename(folder_.path() / "absent.jsonl", "{}\n");
  EXPECT_NE(Refusal().find("absent.jsonl:1: field \"timestamp\""), std::string::npos);
}

}  // namespace
}  // namespace kvr::experiment
