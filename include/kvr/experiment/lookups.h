// One look-up in a view, and what it is held against: every entry, compared token by token. The
// comparison knows nothing of the view's tree of blocks, which it is a check of.
//
// Thread safety: functions of their arguments. Errors: those of the view.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "kvr/cache/view.h"
#include "kvr/engine/generator.h"

namespace kvr::experiment {

// How many of the entry's tokens may be reused for the query, by its match rule and minimum depth,
// where all blocks are stored. Cost: a comparison of tokens up to the first that differ.
[[nodiscard]] std::uint32_t DepthWith(const cache::EntryRow& entry, const cache::Query& query,
                                      std::uint32_t block_tokens);

// The greatest of these over all entries of the view, each of which it compares.
[[nodiscard]] std::uint32_t AvailableDepth(const cache::View& view, const cache::Query& query,
                                           std::uint32_t block_tokens);

// The query's embedding, and whose it is.
struct QueryEmbedding {
  std::span<const float> values;
  std::string_view encoder;
};

// The place, from 1, of the first entry with that depth among all entries with a similarity of at
// least `minimum`, the nearest first. Nothing where there is none, or for a depth of 0.
// Cost: sorts all entries.
[[nodiscard]] std::optional<std::int64_t> RankOfDepth(const cache::View& view,
                                                      const cache::Query& query,
                                                      const QueryEmbedding& embedding,
                                                      float minimum, std::uint32_t depth,
                                                      std::uint32_t block_tokens);

struct Found {
  cache::Plan plan;
  std::optional<float> similarity;  // of the nearest entry
};

// What the engine's policy does, without an engine. REQUIRES: reuse.policy is kEmbedding or
// kPrefix.
[[nodiscard]] Found LookUp(const cache::View& view, const engine::Reuse& reuse,
                           const cache::Query& query, const QueryEmbedding& embedding);

}  // namespace kvr::experiment
