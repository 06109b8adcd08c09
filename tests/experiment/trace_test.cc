#include "kvr/experiment/trace.h"

#include <gtest/gtest.h>

#include "kvr/base/file.h"
#include "testing.h"
#include "trace_fixture.h"

namespace kvr::experiment {
namespace {

std::string Refusal(const std::string& text) {
  std::string message;
  KVR_EXPECT_ERROR((void)ParseTrace(text, "t.jsonl"), kInvalidInput, message);
  return message;
}

void ExpectSays(const std::string& message, const std::vector<std::string>& parts) {
  for (const std::string& part : parts) {
    EXPECT_NE(message.find(part), std::string::npos) << "\"" << part << "\" in: " << message;
  }
}

constexpr const char* kGood =
    R"({"timestamp": 5, "input_length": 600, "output_length": 0, "hash_ids": [7, 9]})";

TEST(TraceTest, EachIdIsABlockOnceWithItsParentAndTokens) {
  const Trace trace = ParseTrace(std::string(kGood) + "\n" + TraceLine(9, {7, 8}), "t");
  ASSERT_EQ(trace.requests.size(), 2u);
  ASSERT_EQ(trace.blocks.size(), 3u);
  EXPECT_EQ(trace.blocks[1].id, 9u);
  EXPECT_EQ(trace.blocks[1].parent, 0u);
  EXPECT_EQ(trace.blocks[1].tokens, 88u);
  EXPECT_EQ(trace.blocks[2].tokens, 512u);
  EXPECT_EQ(trace.blocks[0].parent, TraceBlock::kNone);
  EXPECT_EQ(trace.Chain(1)[1], 2u);
  EXPECT_EQ(trace.requests[1].timestamp_ms, 9);
}

TEST(TraceTest, LineEndsOfAnyKindBlankLinesAndUnknownFieldsDoNotMatter) {
  const std::string with_more =
      R"({"type": "chat", "timestamp": 5, "input_length": 1, "output_length": 3, "hash_ids": [0]})";
  for (const std::string& text : {with_more, with_more + "\n", with_more + "\r\n",
                                  "\n \r\n" + with_more + "\r\n\r\n", "\xEF\xBB\xBF" + with_more}) {
    const Trace trace = ParseTrace(text, "t");
    EXPECT_EQ(trace.requests.size(), 1u);
    EXPECT_EQ(trace.blocks.at(0).tokens, 1u);
  }
}

TEST(TraceTest, ABadLineIsRefusedByItsNumberAndField) {
  const auto with = [](const char* key, const Json& value) {
    Json line = Json::parse(kGood);
    line[key] = value;
    if (value.is_discarded()) line.erase(key);
    return "\r\n" + std::string(kGood) + "\n" + line.dump() + "\n";
  };
  const Json missing(Json::value_t::discarded);
  for (const char* key : {"timestamp", "input_length", "output_length"}) {
    for (const Json& bad : {Json(-1), Json(1.5), Json("1"), Json(nullptr), Json(1e300),
                            Json(std::uint64_t{1} << 49)}) {
      ExpectSays(Refusal(with(key, bad)), {"t.jsonl:3: field \"" + std::string(key) + "\" is "});
    }
    ExpectSays(Refusal(with(key, missing)), {"t.jsonl:3", key, "missing"});
  }
  ExpectSays(Refusal(with("input_length", 0)), {"t.jsonl:3", "input_length", "from 1"});
  for (const Json& bad : {Json(7), Json("7"), Json(nullptr), Json::object()}) {
    ExpectSays(Refusal(with("hash_ids", bad)), {"t.jsonl:3", "hash_ids", "array"});
  }
  for (const Json& bad :
       {Json({7, -9}), Json({7, 9.0}), Json({"7", 9}), Json({7, Json::array()})}) {
    ExpectSays(Refusal(with("hash_ids", bad)), {"t.jsonl:3", "hash_ids", "holds"});
  }
  ExpectSays(Refusal(with("hash_ids", missing)), {"t.jsonl:3", "hash_ids", "missing"});
  ExpectSays(Refusal(with("timestamp", 4)), {"t.jsonl:3", "timestamp", "4", "line 2"});
  ExpectSays(Refusal(std::string(kGood) + "\n[1]\n"), {"t.jsonl:2", "object"});
  ExpectSays(Refusal(std::string(kGood) + "\n" + std::string(kGood).substr(0, 30)), {"t.jsonl:2"});
}

TEST(TraceTest, IdsThatDoNotFitTheLengthOrEachOtherAreRefused) {
  ExpectSays(Refusal(R"({"timestamp":0,"input_length":513,"output_length":1,"hash_ids":[1]})"),
             {"t.jsonl:1", "has 1 ids, expected 2", "513"});
  ExpectSays(Refusal(R"({"timestamp":0,"input_length":512,"output_length":1,"hash_ids":[1,2]})"),
             {"expected 1"});
  ExpectSays(Refusal(R"({"timestamp":0,"input_length":1,"output_length":1,"hash_ids":[]})"),
             {"has 0 ids"});
  ExpectSays(Refusal(TraceLine(0, {1, 2, 1})), {"t.jsonl:1", "hash_ids", "1 twice"});
  ExpectSays(Refusal(TraceLine(0, {1, 2}) + TraceLine(0, {3, 2})),
             {"t.jsonl:2", "2 after 3", "after 1"});
  ExpectSays(Refusal(TraceLine(0, {1, 2}) + TraceLine(0, {2})), {"2 at the beginning", "after 1"});
  ExpectSays(Refusal(TraceLine(0, {1, 2}, 100) + TraceLine(0, {1, 2}, 99)),
             {"2 for 99 tokens", "for 100"});
  ExpectSays(Refusal(TraceLine(0, {1, 2}, 100) + TraceLine(0, {1, 2, 3})), {"2 for 512 tokens"});
}

TEST(TraceTest, AnEmptyAMissingAndAHugeFileAreRefused) {
  ExpectSays(Refusal(""), {"t.jsonl", "no request"});
  ExpectSays(Refusal("\n \r\n"), {"no request"});
  const testing::TempFolder folder;
  std::string message;
  KVR_EXPECT_ERROR((void)ReadTrace(folder.path() / "absent"), kNotFound, message);
  const std::filesystem::path huge = folder.path() / "huge";
  WriteAndRename(huge, "");
  std::filesystem::resize_file(huge, (std::uint64_t{1} << 30) + 1);  // a hole: no disk is used
  KVR_EXPECT_ERROR((void)ReadTrace(huge), kCorrupt, message);
  WriteAndRename(folder.path() / "good.jsonl", std::string(kGood));
  EXPECT_EQ(ReadTrace(folder.path() / "good.jsonl").name, "good.jsonl");
}

TEST(TraceTest, ScalingKeepsBlocksWholeAndRoundsTheLast) {
  const Trace trace = ParseTrace(TraceLine(0, {1, 2}, 100) + TraceLine(1, {1, 3}, 1) +
                                     TraceLine(2, {1, 4, 5}, 504) + TraceLine(3, {1, 4}),
                                 "t");
  const std::vector<std::size_t> some = {0, 1, 3};
  const Trace scaled = Scaled(trace, some, 32);
  ASSERT_EQ(scaled.requests.size(), 3u);
  EXPECT_EQ(scaled.block_tokens, 32);
  EXPECT_EQ(scaled.requests[0].input_tokens, 32 + 6);  // 100 * 32 / 512 = 6.25
  EXPECT_EQ(scaled.requests[1].input_tokens, 32 + 1);  // 0.06, but a token is left
  EXPECT_EQ(scaled.requests[2].input_tokens, 64);
  EXPECT_EQ(scaled.requests[2].timestamp_ms, 3);
  EXPECT_EQ(scaled.blocks.size(), 4u);
  EXPECT_EQ(scaled.blocks[scaled.Chain(2)[1]].id, 4u);
  EXPECT_EQ(scaled.blocks[scaled.Chain(2)[1]].parent, scaled.Chain(0)[0]);
  const std::vector<std::size_t> third = {2};
  EXPECT_EQ(Scaled(trace, third, 32).requests[0].input_tokens, 64 + 32);  // 31.5
}

}  // namespace
}  // namespace kvr::experiment
