#include "kvr/record/trace.h"

#include "kvr/record/run_folder.h"
#include "run_fixture.h"

namespace kvr::record {
namespace {

TraceRow SomeRow() {
  return {.trace = "t.jsonl",
          .model = "tiny",
          .precision = "fp32",
          .codec = "int8",
          .rule = "lru",
          .budget_blocks = 3,
          .budget_bytes = std::uint64_t{1} << 45,
          .bytes_per_token = 9,
          .block_tokens = 512,
          .bin = 2,
          .start_s = 1.5,
          .end_s = 2.5,
          .requests = 4,
          .hit_requests = 3,
          .input_tokens = 5000,
          .hit_tokens = 4999,
          .input_blocks = 10,
          .hit_blocks = 10,
          .evicted_blocks = 20,
          .held_blocks = 3};
}

TEST(TraceRowTest, ALineIsReadAsItWasWritten) {
  EXPECT_EQ(TraceRowFromJson(ToJson(SomeRow()), "w"), SomeRow());
  TraceRow without = SomeRow();
  without.model.reset();
  without.precision.reset();
  without.codec.reset();
  without.budget_blocks.reset();
  without.budget_bytes.reset();
  without.bytes_per_token.reset();
  EXPECT_EQ(TraceRowFromJson(ToJson(without), "w"), without);
  EXPECT_TRUE(ToJson(without).at("budget_blocks").is_null());
}

TEST(TraceRowTest, AnImpossibleLineIsRefusedByItsField) {
  const auto refusal = [](const char* key, const Json& value) {
    Json line = ToJson(SomeRow());
    line[key] = value;
    const Error error = ErrorOf([&] { (void)TraceRowFromJson(line, "here"); });
    EXPECT_TRUE(std::string(error.what()).starts_with("here: ")) << error.what();
    EXPECT_NE(std::string(error.what()).find(key), std::string::npos) << error.what();
    return error.kind();
  };
  for (const char* key : {"requests", "hit_tokens", "budget_blocks", "bin", "start_s"}) {
    EXPECT_EQ(refusal(key, -1), Error::Kind::kCorrupt) << key;
    EXPECT_EQ(refusal(key, "1"), Error::Kind::kCorrupt) << key;
  }
  EXPECT_EQ(refusal("hit_requests", 5), Error::Kind::kCorrupt);
  EXPECT_EQ(refusal("hit_tokens", 5001), Error::Kind::kCorrupt);
  EXPECT_EQ(refusal("hit_blocks", 11), Error::Kind::kCorrupt);
  EXPECT_EQ(refusal("end_s", 1.0), Error::Kind::kCorrupt);
  EXPECT_EQ(refusal("schema", kResultsSchema + 1), Error::Kind::kIncompatible);
}

TEST_F(RunTest, ATracesRowsAreReadWithTheRunAndMayBeAbsent) {
  const fs::path folder = Write({Base("t1", 0, 100)});
  EXPECT_TRUE(ReadRun(folder).trace.empty());
  TraceRow other = SomeRow();
  other.bin = 3;
  { RunFolder(folder).Write(std::vector<TraceRow>{SomeRow(), other}); }
  EXPECT_EQ(ReadRun(folder).trace, (std::vector<TraceRow>{SomeRow(), other}));
  { RunFolder(folder).Write(std::vector<TraceRow>{other}); }
  EXPECT_EQ(ReadRun(folder).trace, std::vector<TraceRow>{other});
  for (const char* bad : {"{\"schema\": 2}\n", "nonsense\n", "\n", "[]"}) {
    std::ofstream(folder / "trace.jsonl") << ToJson(other).dump() << "\n" << bad;
    const Error error = ErrorOf([&] { (void)ReadRun(folder); });
    EXPECT_EQ(error.kind(), Error::Kind::kCorrupt);
    EXPECT_NE(std::string(error.what()).find("trace.jsonl:2"), std::string::npos) << error.what();
  }
}

TEST_F(RunTest, AnExpectedDepthIsReadAndMayBeAbsent) {
  const fs::path folder =
      Write({Recycled("t1", 0, 30, 60, {{"expected_depth", 64}}), Recycled("t2", 0, 30, 60)});
  EXPECT_EQ(ReadRun(folder).cells[0].expected_depth, 64);
  EXPECT_EQ(ReadRun(folder).cells[1].expected_depth, std::nullopt);
}

}  // namespace
}  // namespace kvr::record
