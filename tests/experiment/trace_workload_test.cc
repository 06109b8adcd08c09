#include "kvr/experiment/trace_workload.h"

#include <gtest/gtest.h>

#include "testing.h"
#include "trace_fixture.h"

namespace kvr::experiment {
namespace {

TraceWorkload SmallTrace() {
  TraceWorkload workload{.trace = TraceOf({{1, 2}, {1, 2, 3}, {1, 4}})};
  workload.arithmetic = {.budgets = {ParseBudget("20000B", "")}, .bins = 1};
  return workload;
}

TEST(TraceWorkloadTest, EachCodecHasItsOwnBlocksInABudget) {
  const record::ModelInfo model{
      .name = "tiny", .precision = "fp32", .stored_bytes_per_token = {{"fp32", 16}, {"fp16", 8}}};
  const std::vector<record::TraceRow> rows = TraceRowsOf(SmallTrace(), model);
  ASSERT_EQ(rows.size(), 2u * 3);
  for (const record::TraceRow& row : rows) {
    EXPECT_EQ(row.model, "tiny");
    EXPECT_EQ(row.precision, "fp32");
    if (row.rule == "infinite") continue;
    EXPECT_EQ(row.budget_blocks, row.codec == "fp16" ? 4u : 2u);
    EXPECT_EQ(row.budget_bytes, 2u * 512 * 16);
    EXPECT_EQ(row.evicted_blocks, row.codec == "fp16" ? 0 : 2);
  }
  record::ModelInfo large = model;
  large.stored_bytes_per_token["fp32"] = 100;
  std::string message;
  KVR_EXPECT_ERROR((void)TraceRowsOf(SmallTrace(), large), kInvalidInput, message);
  EXPECT_NE(message.find("takes 51200 bytes"), std::string::npos) << message;
}

TEST(TraceWorkloadTest, ATokensBytesAreTheCodecs) {
  const model::ArchiveInfo info = model::ReadArchiveInfo(testing::TinyModel("tiny-gpt2"));
  const auto numbers = static_cast<std::uint64_t>(2 * info.layers * info.kv_heads * info.head_dim);
  EXPECT_EQ(StoredBytesPerToken(info, cache::Codec::kFp32), 4 * numbers);
  EXPECT_EQ(StoredBytesPerToken(info, cache::CodecFromString("fp16")), 2 * numbers);
  std::string message;
  KVR_EXPECT_ERROR(
      (void)StoredBytesPerToken(model::ReadArchiveInfo(testing::TinyModel("tiny-bert")),
                                cache::Codec::kFp32),
      kInvalidInput, message);
}

TEST(TraceWorkloadTest, TheExpectedDepthIsWhatTheMatchRuleKeeps) {
  const auto expected = [](const engine::Policy& policy, const cache::Match& match,
                           std::uint32_t min_depth = 1) {
    engine::Reuse reuse;
    reuse.policy = policy;
    reuse.match = match;
    reuse.min_depth = min_depth;
    return ExpectedDepth(200, reuse, 64);
  };
  EXPECT_EQ(expected(engine::Policy::kPrefix, cache::Match::kToken), 200);
  EXPECT_EQ(expected(engine::Policy::kPrefix, cache::Match::kBlock), 192);
  EXPECT_EQ(expected(engine::Policy::kPrefix, cache::Match::kWhole), std::nullopt);
  EXPECT_EQ(expected(engine::Policy::kEmbedding, cache::Match::kToken), std::nullopt);
  EXPECT_EQ(expected(engine::Policy::kOff, cache::Match::kToken), std::nullopt);
  EXPECT_EQ(expected(engine::Policy::kPrefix, cache::Match::kToken, 200), 200);
  EXPECT_EQ(expected(engine::Policy::kPrefix, cache::Match::kBlock, 193), 0);
}

TEST(TraceWorkloadTest, ASampleIsToldByItsIdsAndLengths) {
  const SampleOptions options = {.min_turns = 1};
  const auto describe = [&](const std::string& text, const SampleOptions& how) {
    return DescribeSample(MakeSample(ParseTrace(text, "t"), how));
  };
  const Json one = describe(TraceLine(0, {1, 2}, 100) + TraceLine(1, {1, 3}), options);
  EXPECT_EQ(one, describe(TraceLine(5, {1, 2}, 100) + TraceLine(9, {1, 3}), options));
  EXPECT_NE(one, describe(TraceLine(0, {1, 2}, 200) + TraceLine(1, {1, 3}), options));
  EXPECT_NE(one, describe(TraceLine(0, {1, 2}, 100) + TraceLine(1, {1, 4}), options));
  EXPECT_NE(one, describe(TraceLine(0, {1, 2}, 100) + TraceLine(1, {1, 3}),
                          {.block_tokens = 63, .min_turns = 1}));
}

}  // namespace
}  // namespace kvr::experiment
