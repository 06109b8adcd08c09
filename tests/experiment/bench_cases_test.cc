#include "kvr/experiment/bench_cases.h"

#include "testing.h"

namespace kvr::experiment {
namespace {

constexpr int kVocab = 100;

TEST(ReadBenchCases, EveryKindComesBackAsWritten) {
  const std::vector<BenchCase> cases = ReadBenchCases(Json::parse(R"([
      {"what": "prefill", "tokens": [0, 99]},
      {"what": "decode", "tokens": [5], "new_tokens": 2},
      {"what": "recycled", "tokens": [1, 2, 3], "cached": 2, "new_tokens": 4},
      {"what": "embed", "text": "where are the maps?"}])"),
                                                      kVocab, "test");
  ASSERT_EQ(cases.size(), 4U);
  EXPECT_EQ(cases[0].what, BenchCase::What::kPrefill);
  EXPECT_EQ(cases[0].tokens, Tokens({0, 99}));
  EXPECT_EQ(cases[0].new_tokens, 1);
  EXPECT_EQ(cases[1].what, BenchCase::What::kDecode);
  EXPECT_EQ(cases[1].new_tokens, 2);
  EXPECT_EQ(cases[2].what, BenchCase::What::kRecycled);
  EXPECT_EQ(cases[2].cached, 2);
  EXPECT_EQ(cases[2].new_tokens, 4);
  EXPECT_EQ(cases[3].what, BenchCase::What::kEmbed);
  EXPECT_EQ(cases[3].text, "where are the maps?");
}

TEST(ReadBenchCases, AMistakeIsNamedWithItsCase) {
  const struct {
    const char* json;
    const char* expected;
  } mistakes[] = {
      {R"({})", "a list"},
      {R"([])", "a list"},
      {R"([{"what": "prefil", "tokens": [1]}])", "prefill, decode, recycled, embed"},
      {R"([{"what": "prefill"}])", "needs \"tokens\""},
      {R"([{"what": "prefill", "tokens": []}])", "one or more token ids"},
      {R"([{"what": "prefill", "tokens": [1, 100]}])", "from 0 to 99"},
      {R"([{"what": "prefill", "tokens": [1], "cached": 1}])", "does not have"},
      {R"([{"what": "prefill", "tokens": [1], "new_tokens": 0}])", "from 1"},
      {R"([{"what": "decode", "tokens": [1], "new_tokens": 1}])", "from 2"},
      {R"([{"what": "recycled", "tokens": [1, 2], "cached": 2}])", "from 1 to 1"},
      {R"([{"what": "embed", "text": 3}])", "a string"},
  };
  for (const auto& mistake : mistakes) {
    std::string message;
    KVR_EXPECT_ERROR((void)ReadBenchCases(Json::parse(mistake.json), kVocab, "cases.json"),
                     kInvalidInput, message);
    EXPECT_NE(message.find(mistake.expected), std::string::npos) << message;
    EXPECT_NE(message.find("cases.json"), std::string::npos) << message;
  }
}

}  // namespace
}  // namespace kvr::experiment
