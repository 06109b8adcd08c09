// Look-ups against a brute-force oracle: every rule applied by the letter to every entry.
#include "kvr/cache/view.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <set>

#include "kvr/base/error.h"

namespace kvr::cache {
namespace {

constexpr std::uint32_t kBlock = 4;

Digest Root() { return Sha256Of("root"); }

// Three tokens whose texts overlap, so that equal texts may have different tokens.
std::string TextOf(std::span<const Token> tokens) {
  std::string text;
  for (const Token token : tokens) text += token == 0 ? "a" : token == 1 ? "b" : "ab";
  return text;
}

EntryRow MakeEntry(const Tokens& tokens, std::int64_t created) {
  EntryRow row;
  row.id = Sha256Of(TextOf(tokens) + "#" + std::to_string(created));
  row.text = TextOf(tokens);
  row.tokens = tokens;
  row.created_us = created;
  for (const ChainLink& link : Chain(Root(), tokens, kBlock)) row.chain.push_back(link.hash);
  return row;
}

IndexPicture PictureOf(const std::vector<Tokens>& entries) {
  IndexPicture picture;
  for (const Tokens& tokens : entries) {
    picture.entries.push_back(
        MakeEntry(tokens, static_cast<std::int64_t>(picture.entries.size()) + 1));
    for (const ChainLink& link : Chain(Root(), tokens, kBlock)) {
      picture.blocks[link.hash] = {link.hash, link.parent, link.count, 1};
    }
  }
  return picture;
}

View ViewOf(const std::vector<Tokens>& entries) { return {PictureOf(entries), Root(), kBlock}; }

Plan Walk(const View& view, const Tokens& prompt, Match match, std::uint32_t minimum = 1) {
  const std::string text = TextOf(prompt);
  return view.WalkPrefix(
      {.tokens = prompt, .text = text, .match = match, .minimum_depth = minimum});
}

Plan Verified(const View& view, const Tokens& prompt, Match match) {
  std::vector<Candidate> all;
  for (std::uint32_t i = 0; i < view.entries().size(); ++i) all.push_back({i, 0.5F});
  const std::string text = TextOf(prompt);
  return view.LongestVerified(all, {.tokens = prompt, .text = text, .match = match});
}

std::size_t Common(const Tokens& a, const Tokens& b) {
  std::size_t i = 0;
  while (i < a.size() && i < b.size() && a[i] == b[i]) ++i;
  return i;
}

struct Expected {
  std::size_t depth = 0;
  LimitedBy limited_by = LimitedBy::kNoCandidate;
};

bool TokenBoundary(const Tokens& entry, const Tokens& prompt) {
  return Common(entry, prompt) < prompt.size() && Common(entry, prompt) + 1 == entry.size() &&
         TextOf(prompt).starts_with(TextOf(entry));
}

Expected PrefixOracle(const std::vector<Tokens>& entries, const Tokens& prompt, Match match) {
  std::size_t common = 0;
  std::size_t whole = 0;
  bool ends = false;
  bool boundary = false;
  for (const Tokens& entry : entries) common = std::max(common, Common(entry, prompt));
  for (const Tokens& entry : entries) {
    const std::size_t shared = Common(entry, prompt);
    if (shared == entry.size()) whole = std::max(whole, shared);
    if (shared != common) continue;
    ends |= entry.size() == common;
    boundary |= TokenBoundary(entry, prompt);
  }
  const std::size_t most = prompt.size() - 1;
  if (match == Match::kWhole) {
    if (whole > 0) {
      return {std::min(whole, most),
              whole == prompt.size() ? LimitedBy::kLastToken : LimitedBy::kEndOfEntry};
    }
    return {0, boundary      ? LimitedBy::kTokenBoundary
               : common == 0 ? LimitedBy::kNoCandidate
                             : LimitedBy::kNotPrefix};
  }
  LimitedBy why = common == prompt.size() ? LimitedBy::kLastToken
                  : ends                  ? LimitedBy::kEndOfEntry
                  : boundary              ? LimitedBy::kTokenBoundary
                  : common == 0           ? LimitedBy::kNoCandidate
                                          : LimitedBy::kDiverged;
  std::size_t depth = std::min(common, most);
  if (match == Match::kBlock && depth % kBlock != 0) {
    depth = depth / kBlock * kBlock;
    why = LimitedBy::kBlockEdge;
  }
  return {depth, why};
}

// One candidate of the embedding policy; `stored` tokens of it can be read.
Expected EntryOracle(const Tokens& entry, std::size_t stored, const Tokens& prompt, Match match) {
  const std::size_t common = Common(entry, prompt);
  const std::size_t most = prompt.size() - 1;
  LimitedBy why = common == prompt.size()        ? LimitedBy::kLastToken
                  : common == entry.size()       ? LimitedBy::kEndOfEntry
                  : TokenBoundary(entry, prompt) ? LimitedBy::kTokenBoundary
                                                 : LimitedBy::kDiverged;
  std::size_t depth = std::min(common, most);
  if (match == Match::kWhole && common < entry.size()) {
    return {0, why == LimitedBy::kTokenBoundary ? why : LimitedBy::kNotPrefix};
  }
  if (match == Match::kBlock && depth % kBlock != 0) {
    depth = depth / kBlock * kBlock;
    why = LimitedBy::kBlockEdge;
  }
  if (depth > stored) return {match == Match::kWhole ? 0 : stored, LimitedBy::kEvicted};
  return {depth, why};
}

// A plan's blocks must be what its depth and tokens say, by the hashes alone.
void CheckPlan(const View& view, const Plan& plan, const Tokens& prompt) {
  ASSERT_EQ(plan.tokens, Tokens(prompt.begin(), prompt.begin() + plan.depth));
  ASSERT_EQ(plan.entry.has_value(), plan.depth > 0);
  ASSERT_EQ(plan.blocks.size(), (plan.depth + kBlock - 1) / kBlock);
  if (plan.depth == 0) return;
  const auto entry =
      std::ranges::find_if(view.entries(), [&](const auto& row) { return row->id == *plan.entry; });
  ASSERT_NE(entry, view.entries().end());
  const auto chain = Chain(Root(), (*entry)->tokens, kBlock);
  for (std::size_t i = 0; i < plan.blocks.size(); ++i) {
    const PlannedBlock& block = plan.blocks[i];
    ASSERT_EQ(block.hash, chain[i].hash);  // so its tokens are the entry's
    ASSERT_EQ(block.first, i * kBlock);
    ASSERT_EQ(block.stored, chain[i].count);
    ASSERT_EQ(block.used, std::min(plan.depth - block.first, kBlock));
    ASSERT_LE(block.used, block.stored);
  }
  ASSERT_GE(Common((*entry)->tokens, prompt), plan.depth);
}

class RandomTokens {
 public:
  explicit RandomTokens(unsigned seed) : random_(seed) {}
  std::size_t Below(std::size_t bound) { return random_() % bound; }
  Tokens Make(std::size_t longest, std::size_t alphabet) {
    Tokens tokens(1 + Below(longest));
    for (Token& token : tokens) token = static_cast<Token>(Below(alphabet));
    return tokens;
  }
  // Often continues or cuts one of `others`, so that prefixes collide.
  Tokens Near(const std::vector<Tokens>& others, std::size_t alphabet) {
    Tokens tokens = Make(14, alphabet);
    if (!others.empty() && Below(4) != 0) {
      const Tokens& other = others[Below(others.size())];
      const std::size_t keep = Below(other.size() + 1);
      const Tokens suffix = Make(6, alphabet);
      tokens.assign(other.begin(), other.begin() + static_cast<std::ptrdiff_t>(keep));
      if (tokens.empty() || Below(3) != 0) {
        tokens.insert(tokens.end(), suffix.begin(), suffix.end());
      }
    }
    return tokens;
  }

 private:
  std::mt19937 random_;
};

TEST(ViewTest, WalkPrefixAgreesWithTheOracle) {
  RandomTokens random(1);
  std::set<std::pair<Match, LimitedBy>> seen;
  for (int round = 0; round < 4000; ++round) {
    const std::size_t alphabet = 1 + random.Below(3);
    std::vector<Tokens> entries;
    for (std::size_t i = random.Below(9); i > 0; --i) {
      entries.push_back(random.Near(entries, alphabet));
    }
    const View view = ViewOf(entries);
    for (int i = 0; i < 4; ++i) {
      const Tokens prompt = random.Near(entries, alphabet);
      for (const Match match : kMatches) {
        const Plan plan = Walk(view, prompt, match);
        const Expected expected = PrefixOracle(entries, prompt, match);
        ASSERT_EQ(plan.depth, expected.depth) << ToString(match);
        ASSERT_STREQ(ToString(plan.limited_by), ToString(expected.limited_by)) << ToString(match);
        CheckPlan(view, plan, prompt);
        seen.emplace(match, plan.limited_by);
      }
    }
  }
  // Five reasons each for whole and token, six for block: every one that a rule can give came up.
  EXPECT_EQ(seen.size(), 16U);
}

TEST(ViewTest, LongestVerifiedAgreesWithTheOracleAlsoWhenBlocksAreGone) {
  RandomTokens random(2);
  std::set<std::pair<Match, LimitedBy>> seen;
  for (int round = 0; round < 4000; ++round) {
    const std::size_t alphabet = 1 + random.Below(3);
    std::vector<Tokens> entries;
    for (std::size_t i = 1 + random.Below(6); i > 0; --i) {
      entries.push_back(random.Near(entries, alphabet));
    }
    IndexPicture picture = PictureOf(entries);
    if (round % 2 == 1) {
      std::erase_if(picture.blocks, [&](const auto&) { return random.Below(5) == 0; });
    }
    const auto blocks = picture.blocks;
    const View view(std::move(picture), Root(), kBlock);
    const Tokens prompt = random.Near(entries, alphabet);
    for (const Match match : kMatches) {
      std::size_t best = 0;
      Expected expected;
      std::size_t expected_common = 0;
      for (std::size_t i = 0; i < entries.size(); ++i) {
        std::size_t stored = 0;
        for (const ChainLink& link : Chain(Root(), entries[i], kBlock)) {
          if (!blocks.contains(link.hash)) break;
          stored += link.count;
        }
        const Expected one = EntryOracle(entries[i], stored, prompt, match);
        const std::size_t common = one.depth == 0 ? Common(entries[i], prompt) : 0;
        const bool better =
            i == 0 || one.depth > expected.depth ||
            (one.depth == expected.depth &&
             (common > expected_common ||
              (common == expected_common && entries[i].size() > entries[best].size())));
        if (better) {
          best = i;
          expected = one;
          expected_common = common;
        }
      }
      const Plan plan = Verified(view, prompt, match);
      ASSERT_EQ(plan.depth, expected.depth) << ToString(match);
      ASSERT_STREQ(ToString(plan.limited_by), ToString(expected.limited_by)) << ToString(match);
      if (plan.depth > 0) {
        ASSERT_EQ(*plan.entry, view.entries()[best]->id);
      }
      CheckPlan(view, plan, prompt);
      for (const PlannedBlock& block : plan.blocks) ASSERT_TRUE(blocks.contains(block.hash));
      seen.emplace(match, plan.limited_by);
    }
  }
  EXPECT_EQ(seen.size(), 16U);
}

TEST(ViewTest, WalkPrefixNeverPlansABlockThatIsGone) {
  RandomTokens random(3);
  int evicted = 0;
  for (int round = 0; round < 4000; ++round) {
    std::vector<Tokens> entries;
    for (std::size_t i = 1 + random.Below(6); i > 0; --i)
      entries.push_back(random.Near(entries, 2));
    IndexPicture picture = PictureOf(entries);
    std::erase_if(picture.blocks, [&](const auto&) { return random.Below(4) == 0; });
    const auto blocks = picture.blocks;
    const View view(std::move(picture), Root(), kBlock);
    const Tokens prompt = random.Near(entries, 2);
    for (const Match match : kMatches) {
      const Plan plan = Walk(view, prompt, match);
      CheckPlan(view, plan, prompt);
      for (const PlannedBlock& block : plan.blocks) ASSERT_TRUE(blocks.contains(block.hash));
      const Expected all = PrefixOracle(entries, prompt, match);
      ASSERT_LE(plan.depth, all.depth);
      if (plan.depth < all.depth && match != Match::kWhole) {
        ASSERT_EQ(plan.limited_by, LimitedBy::kEvicted);
        ++evicted;
      }
    }
  }
  EXPECT_GT(evicted, 100);
}

TEST(ViewTest, BothPoliciesFindTheSameDepthAmongTheSameEntries) {
  RandomTokens random(4);
  for (int round = 0; round < 3000; ++round) {
    std::vector<Tokens> entries;
    for (std::size_t i = 1 + random.Below(8); i > 0; --i)
      entries.push_back(random.Near(entries, 2));
    const View view = ViewOf(entries);
    const Tokens prompt = random.Near(entries, 2);
    for (const Match match : kMatches) {
      ASSERT_EQ(Walk(view, prompt, match).depth, Verified(view, prompt, match).depth);
    }
  }
}

TEST(ViewTest, ASubsetSeesItsEntriesOnly) {
  const View all = ViewOf({{0, 1, 0, 1, 0, 1}, {0, 1, 0, 1, 0, 1, 0, 1}, {1}});
  const Digest first = all.entries()[0]->id;
  const View subset = all.Subset({&first, 1});
  ASSERT_EQ(subset.entries().size(), 1U);
  const Tokens prompt = {0, 1, 0, 1, 0, 1, 0, 1, 0};
  EXPECT_EQ(Walk(all, prompt, Match::kToken).depth, 8U);
  EXPECT_EQ(Walk(subset, prompt, Match::kToken).depth, 6U);
  EXPECT_EQ(Walk(subset, {1, 0}, Match::kToken).limited_by, LimitedBy::kNoCandidate);
  const Digest unknown = Sha256Of("unknown");
  EXPECT_THROW((void)subset.Subset({&unknown, 1}), Error);
  EXPECT_EQ(Walk(all.Subset({}), prompt, Match::kToken).limited_by, LimitedBy::kNoCandidate);
}

TEST(ViewTest, ADepthBelowTheMinimumIsAMiss) {
  const View view = ViewOf({{0, 1, 0, 1, 0, 1}});
  const Tokens prompt = {0, 1, 0, 1, 0, 1, 1, 1};
  EXPECT_EQ(Walk(view, prompt, Match::kToken, 6).depth, 6U);
  const Plan plan = Walk(view, prompt, Match::kToken, 7);
  EXPECT_EQ(plan.depth, 0U);
  EXPECT_EQ(plan.limited_by, LimitedBy::kBelowMinimum);
  EXPECT_FALSE(plan.entry.has_value());
  EXPECT_TRUE(plan.blocks.empty());
}

TEST(ViewTest, AnEmptyPromptReusesNothing) {
  const View view = ViewOf({{0, 1}});
  for (const Match match : kMatches) EXPECT_EQ(Walk(view, {}, match).depth, 0U);
}

TEST(ViewTest, NearestSortsBySimilarityThenLengthThenAge) {
  IndexPicture picture = PictureOf({{0}, {0, 1}, {0, 2}, {1, 1, 1}, {2}, {2, 2}});
  const auto unit = [](float angle) {
    std::vector<float> v(19, 0.0F);  // not a multiple of the dot product's lanes
    v[0] = std::cos(angle);
    v[18] = std::sin(angle);
    return v;
  };
  const float angles[] = {0.5F, 0.2F, 0.2F, 0.2F, 0.1F, 0.0F};
  for (std::size_t i = 0; i < picture.entries.size(); ++i) {
    picture.entries[i].embedding = unit(angles[i]);
    picture.entries[i].encoder = i == 5 ? "another" : "minilm";
  }
  const View view(std::move(picture), Root(), kBlock);
  const auto order = [&](std::size_t count, float minimum) {
    std::vector<std::uint32_t> found;
    for (const Candidate& c : view.Nearest(unit(0.0F), "minilm", count, minimum)) {
      found.push_back(c.entry);
    }
    return found;
  };
  EXPECT_EQ(order(10, -1), (std::vector<std::uint32_t>{4, 3, 1, 2, 0}));
  EXPECT_EQ(order(2, -1), (std::vector<std::uint32_t>{4, 3}));
  EXPECT_EQ(order(10, 0.9F), (std::vector<std::uint32_t>{4, 3, 1, 2}));
  EXPECT_EQ(order(0, -1), (std::vector<std::uint32_t>{}));
  EXPECT_NEAR(view.Nearest(unit(0.0F), "minilm", 1, -1)[0].similarity, std::cos(0.1F), 1e-6);
  EXPECT_THROW((void)view.Nearest(std::vector<float>(3), "minilm", 1, -1), Error);
}

TEST(ViewTest, NoCandidateIsSaidOfNone) {
  const View view = ViewOf({{0, 1}});
  const Tokens prompt = {0, 1, 2};
  const Plan plan = view.LongestVerified({}, {.tokens = prompt, .text = "abab"});
  EXPECT_EQ(plan.depth, 0U);
  EXPECT_EQ(plan.limited_by, LimitedBy::kNoCandidate);
}

}  // namespace
}  // namespace kvr::cache
