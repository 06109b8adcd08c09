#include "kvr/experiment/lookups.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <string>
#include <vector>

namespace kvr::experiment {
namespace {

constexpr std::uint32_t kBlock = 4;

// Entries in a plane, by the angle of their embeddings in degrees.
struct Placed {
  Tokens tokens;
  double degrees;
};

std::vector<float> At(double degrees) {
  const double angle = degrees * std::acos(-1.0) / 180;
  return {static_cast<float>(std::cos(angle)), static_cast<float>(std::sin(angle))};
}

cache::View ViewOf(const std::vector<Placed>& entries) {
  cache::IndexPicture picture;
  const Digest root = Sha256Of("root");
  for (const auto& [tokens, degrees] : entries) {
    cache::EntryRow row{.tokens = tokens, .embedding = At(degrees), .encoder = "e"};
    row.created_us = static_cast<std::int64_t>(picture.entries.size()) + 1;
    row.id = Sha256Of(std::to_string(row.created_us));
    for (const cache::ChainLink& link : cache::Chain(root, tokens, kBlock)) {
      row.chain.push_back(link.hash);
      picture.blocks[link.hash] = {link.hash, link.parent, link.count, 1};
    }
    picture.entries.push_back(std::move(row));
  }
  return {std::move(picture), root, kBlock};
}

const Tokens kPrompt = {1, 2, 3, 4, 5, 6, 7, 8};

std::uint32_t Available(const cache::View& view, const cache::Match& match,
                        const Tokens& prompt = kPrompt, std::uint32_t minimum = 1) {
  return AvailableDepth(view, {.tokens = prompt, .match = match, .minimum_depth = minimum}, kBlock);
}

TEST(LookupsTest, TheAvailableDepthIsTheBestThatAnyEntryGives) {
  const cache::View view = ViewOf({{{1, 2, 3}, 0}, {{1, 2, 3, 4, 5, 9, 9, 9, 9}, 0}, {{7}, 0}});
  EXPECT_EQ(Available(view, cache::Match::kToken), 5u);
  EXPECT_EQ(Available(view, cache::Match::kWhole), 3u);
  EXPECT_EQ(Available(view, cache::Match::kBlock), 4u);
  EXPECT_EQ(Available(view, cache::Match::kToken, kPrompt, 6), 0u);
  EXPECT_EQ(Available(view, cache::Match::kToken, {}), 0u);
  EXPECT_EQ(Available(view, cache::Match::kToken, {1}), 0u);  // its only token runs
  EXPECT_EQ(Available(ViewOf({}), cache::Match::kToken), 0u);
  // An entry that is the prompt, or goes on behind it, leaves one token to run.
  EXPECT_EQ(Available(ViewOf({{kPrompt, 0}}), cache::Match::kWhole), 7u);
  EXPECT_EQ(Available(ViewOf({{{1, 2, 3, 4, 5, 6, 7, 8, 9}, 0}}), cache::Match::kToken), 7u);
  EXPECT_EQ(Available(ViewOf({{{1, 2, 3, 4, 5, 6, 7, 8, 9}, 0}}), cache::Match::kWhole), 0u);
}

TEST(LookupsTest, TheNearestEntryAloneMayBeTheWrongOne) {
  const cache::View view = ViewOf({{{1, 2}, 10}, {{1, 2, 3, 4, 5}, 20}, {{9, 9}, 5}});
  const cache::Query query{.tokens = kPrompt, .match = cache::Match::kToken};
  const std::vector<float> values = At(0);
  const QueryEmbedding embedding{values, "e"};
  const auto depth = [&](int k) {
    const Found found =
        LookUp(view, {.policy = engine::Policy::kEmbedding, .candidates = k}, query, embedding);
    EXPECT_NEAR(found.similarity.value_or(0), std::cos(5 * std::acos(-1.0) / 180), 1e-6);
    return found.plan.depth;
  };
  EXPECT_EQ(depth(1), 0u);
  EXPECT_EQ(depth(2), 2u);
  EXPECT_EQ(depth(3), 5u);
  const auto rank = [&](std::uint32_t of, float minimum) {
    return RankOfDepth(view, query, embedding, minimum, of, kBlock);
  };
  EXPECT_EQ(rank(5, 0), 3);
  EXPECT_EQ(rank(2, 0), 2);
  EXPECT_EQ(rank(5, 0.99F), std::nullopt);  // cos 20 degrees is 0.94
  EXPECT_EQ(rank(0, 0), std::nullopt);
  const Found walked = LookUp(view, {.policy = engine::Policy::kPrefix}, query, {});
  EXPECT_EQ(walked.plan.depth, 5u);
  EXPECT_EQ(walked.similarity, std::nullopt);
}

TEST(LookupsTest, TheWalkOfHashesFindsWhatComparingEveryEntryFinds) {
  std::mt19937 random(3);
  const auto tokens = [&] {
    Tokens made(1 + random() % 14);
    for (Token& token : made) token = static_cast<Token>(random() % 2);
    return made;
  };
  int found = 0;
  for (int round = 0; round < 300; ++round) {
    std::vector<Placed> entries(1 + random() % 8);
    for (Placed& entry : entries) entry.tokens = tokens();
    const cache::View view = ViewOf(entries);
    const Tokens prompt = tokens();
    for (const cache::Match& match : cache::kMatches) {
      const cache::Query query{.tokens = prompt, .match = match};
      const std::uint32_t available = AvailableDepth(view, query, kBlock);
      EXPECT_EQ(LookUp(view, {.policy = engine::Policy::kPrefix}, query, {}).plan.depth, available);
      found += available > 0 ? 1 : 0;
    }
  }
  EXPECT_GT(found, 200);
}

}  // namespace
}  // namespace kvr::experiment
