#include "kvr/cache/match.h"

#include <gtest/gtest.h>

#include "cache/fixture.h"

namespace kvr::cache {
namespace {

TEST(MatchTest, NamesOfMatchesReadBack) {
  for (const Match match : kMatches) EXPECT_EQ(MatchFromString(ToString(match)), match);
  EXPECT_THROW((void)MatchFromString("tokens"), Error);
}

// A rule that is no member of the program's list, in a list of one more: both look-ups obey it.
TEST_F(CacheTest, AddingOneMatchRuleIsOneLine) {
  const Match half{.name = "half",
                   .entire_entry = false,
                   .whole_blocks = false,
                   .keep = [](std::uint32_t tokens, std::uint32_t) { return tokens / 2; },
                   .reason = LimitedBy::kDiverged};
  std::vector<Match> more(kMatches.begin(), kMatches.end());
  more.push_back(half);
  EXPECT_EQ(MatchNames(more), (std::vector<std::string>{"whole", "token", "block", "half"}));
  EXPECT_EQ(MatchFromString("half", more), half);
  try {
    (void)MatchFromString("third", more);
    FAIL();
  } catch (const Error& e) {
    EXPECT_STREQ(e.what(), "match 'third' found, expected whole, token, block or half");
  }

  Store store(dir(), key_);
  Put(store, Tokens{1, 2, 3, 4, 5, 6, 7, 8, 9});
  const Tokens prompt = {1, 2, 3, 4, 5, 6, 70};
  const View view = store.MakeView();
  const Query query{.tokens = prompt, .text = {}, .match = half};
  const Candidate only{.entry = 0, .similarity = 0.5F};
  for (const Plan& plan : {view.WalkPrefix(query), view.LongestVerified({&only, 1}, query)}) {
    EXPECT_EQ(plan.depth, 3U);
    EXPECT_EQ(plan.limited_by, LimitedBy::kDiverged);
    EXPECT_EQ(RestoreAndCompare(store, plan, prompt).tokens, 3U);
  }
}

}  // namespace
}  // namespace kvr::cache
