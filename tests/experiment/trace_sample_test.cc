#include "kvr/experiment/trace_sample.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "testing.h"
#include "trace_fixture.h"

namespace kvr::experiment {
namespace {

// A system prompt, block 1, and three conversations of three, two and one turns.
Trace Conversations() {
  return ParseTrace(TraceLine(0, {1, 10, 11}, 100) + TraceLine(1, {1, 20}) +
                        TraceLine(2, {1, 10, 12, 13}, 200) + TraceLine(3, {1, 30}, 9) +
                        TraceLine(4, {1, 20, 21}) + TraceLine(5, {1, 10, 12, 14, 15}, 300),
                    "conversations");
}

std::vector<std::size_t> Requests(const ScaledSample& sample) {
  std::vector<std::size_t> requests;
  for (const SampledRequest& request : sample.requests) requests.push_back(request.request);
  return requests;
}

TEST(TraceSampleTest, ASessionSharesTheFirstBlockAfterWhatAllShare) {
  const ScaledSample sample =
      MakeSample(Conversations(), {.requests = 100, .block_tokens = 32, .min_turns = 1});
  ASSERT_EQ(Requests(sample), (std::vector<std::size_t>{0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(sample.sessions, 3u);
  std::vector<std::string> sessions;
  std::vector<std::int64_t> turns, shared, depths;
  for (const SampledRequest& request : sample.requests) {
    sessions.push_back(request.session);
    turns.push_back(request.turn);
    shared.push_back(request.shared_tokens);
    depths.push_back(request.expected_depth);
  }
  EXPECT_EQ(sessions, (std::vector<std::string>{"s10", "s20", "s10", "s30", "s20", "s10"}));
  EXPECT_EQ(turns, (std::vector<std::int64_t>{1, 1, 2, 1, 2, 3}));
  EXPECT_EQ(depths, (std::vector<std::int64_t>{0, 32, 64, 32, 64, 96}));
  EXPECT_EQ(shared, depths);
  EXPECT_EQ(sample.requests[3].sees, (std::vector<std::size_t>{0, 1, 2}));
  EXPECT_EQ(sample.requests[0].tokens, 64 + 6);
}

TEST(TraceSampleTest, RequestsThatEndWithWhatAllShareAreOneSessionAndSoAreEqualOnes) {
  const ScaledSample ends =
      MakeSample(ParseTrace(TraceLine(0, {1}) + TraceLine(1, {1, 2}) + TraceLine(2, {1}), "t"),
                 {.min_turns = 1});
  EXPECT_EQ(ends.requests[0].session, "s1");
  EXPECT_EQ(ends.requests[1].session, "s2");
  EXPECT_EQ(ends.requests[2].session, "s1");
  EXPECT_EQ(ends.requests[2].shared_tokens, 64);
  EXPECT_EQ(ends.requests[2].expected_depth, 63);  // the last token runs
  const ScaledSample equal = MakeSample(TraceOf({{1, 2}, {1, 2}}), {});
  EXPECT_EQ(equal.requests[1].session, "s2");
  EXPECT_EQ(equal.requests[1].turn, 2);
  EXPECT_EQ(MakeSample(TraceOf({{1}}), {.min_turns = 1}).requests.size(), 1u);
}

TEST(TraceSampleTest, OnlyWhatFitsIsDrawnAndOfTheLastSessionTheFirstRequests) {
  const SampleOptions fitting = {.requests = 100, .block_tokens = 32, .max_tokens = 110};
  const ScaledSample sample = MakeSample(Conversations(), fitting);
  EXPECT_EQ(Requests(sample), (std::vector<std::size_t>{0, 1, 2, 4}));  // 5 is too long, 3 alone
  EXPECT_EQ(sample.too_long, 1u);
  EXPECT_EQ(sample.sessions_to_draw, 2u);
  SampleOptions few = fitting;
  few.requests = 3;
  const std::vector<std::size_t> three = Requests(MakeSample(Conversations(), few));
  EXPECT_TRUE(three == (std::vector<std::size_t>{0, 1, 2}) ||
              three == (std::vector<std::size_t>{0, 1, 4}));
  std::string message;
  KVR_EXPECT_ERROR((void)MakeSample(Conversations(), {.block_tokens = 32, .max_tokens = 20}),
                   kInvalidInput, message);
  KVR_EXPECT_ERROR((void)MakeSample(TraceOf({{1, 2}, {1, 3}}), {}), kInvalidInput, message);
  EXPECT_NE(message.find("no session has 2 requests"), std::string::npos) << message;
}

TEST(TraceSampleTest, TheSeedAloneDecides) {
  std::mt19937_64 random(3);
  const Trace trace = RandomTrace(random, 300, 9, 4);
  std::set<std::vector<std::size_t>> different;
  for (std::uint64_t seed = 0; seed < 5; ++seed) {
    const SampleOptions options = {.requests = 12, .seed = seed, .block_tokens = 8};
    const ScaledSample sample = MakeSample(trace, options);
    EXPECT_EQ(sample.requests.size(), 12u);
    const ScaledSample again = MakeSample(trace, options);
    EXPECT_EQ(Requests(sample), Requests(again));
    EXPECT_EQ(SampleTokens(sample, 100, {}), SampleTokens(again, 100, {}));
    different.insert(Requests(sample));
  }
  EXPECT_GT(different.size(), 1u);
}

// The longest prefix that any earlier prompt of the sample has, token by token.
std::int64_t LongestCommon(const std::vector<Tokens>& prompts, const SampledRequest& request,
                           const Tokens& tokens) {
  std::ptrdiff_t longest = 0;
  for (const std::size_t i : request.sees) {
    const Tokens& other = prompts[i];
    const auto differ = std::mismatch(tokens.begin(), tokens.end(), other.begin(), other.end());
    longest = std::max(longest, differ.first - tokens.begin());
  }
  return longest;
}

TEST(TraceSampleTest, TheDepthsAreThoseOfTheTokensThemselves) {
  std::mt19937_64 random(4);
  std::int64_t hits = 0, whole = 0;
  for (int round = 0; round < 60; ++round) {
    const Trace trace = RandomTrace(random, 80, 2 + round % 4, 5);
    const SampleOptions options = {.requests = 40,
                                   .seed = static_cast<std::uint64_t>(round),
                                   .block_tokens = 1 + round % 7,
                                   .min_turns = 1};
    const ScaledSample sample = MakeSample(trace, options);
    // So few ids that blocks which only drew them would often agree by chance.
    const std::vector<Token> special = {0, 3};
    const std::vector<Tokens> prompts = SampleTokens(sample, 16, special);
    ASSERT_EQ(prompts.size(), sample.requests.size());
    for (std::size_t i = 0; i < prompts.size(); ++i) {
      const SampledRequest& request = sample.requests[i];
      ASSERT_EQ(std::ssize(prompts[i]), request.tokens);
      for (const Token id : prompts[i]) ASSERT_TRUE(id > 0 && id < 16 && id != 3) << id;
      const std::int64_t common = LongestCommon(prompts, request, prompts[i]);
      ASSERT_EQ(request.shared_tokens, common) << round << " " << i;
      ASSERT_EQ(request.expected_depth, std::min(common, request.tokens - 1)) << round << " " << i;
      if (request.expected_depth > 0) ++hits;
      if (common == request.tokens) ++whole;
    }
  }
  EXPECT_GT(hits, 100);
  EXPECT_GT(whole, 10);
}

TEST(TraceSampleTest, EqualIdsAreEqualTokensAndTooSmallAVocabularyIsRefused) {
  const ScaledSample sample = MakeSample(Conversations(), {.requests = 100, .min_turns = 1});
  const std::vector<Tokens> prompts = SampleTokens(sample, 50000, {});
  EXPECT_TRUE(std::equal(prompts[2].begin(), prompts[2].begin() + 192, prompts[5].begin()));
  EXPECT_NE(prompts[2][192], prompts[5][192]);
  std::set<Token> kinds(prompts[0].begin(), prompts[0].end());
  EXPECT_GT(kinds.size(), 100u);  // of 140 tokens: drawn, not repeated
  std::string message;
  KVR_EXPECT_ERROR((void)SampleTokens(sample, 4, {1, 2}), kInvalidInput, message);
  EXPECT_NE(message.find("no more ordinary tokens"), std::string::npos) << message;
}

}  // namespace
}  // namespace kvr::experiment
