#include "kvr/experiment/lookups.h"

#include <algorithm>
#include <cassert>

namespace kvr::experiment {

std::uint32_t DepthWith(const cache::EntryRow& entry, const cache::Query& query,
                        std::uint32_t block_tokens) {
  const auto differ = std::mismatch(entry.tokens.begin(), entry.tokens.end(), query.tokens.begin(),
                                    query.tokens.end());
  const auto common = static_cast<std::size_t>(differ.first - entry.tokens.begin());
  if (query.match.entire_entry && common < entry.tokens.size()) return 0;
  // One token always runs.
  const std::size_t most = std::min(common, query.tokens.empty() ? 0 : query.tokens.size() - 1);
  const std::uint32_t depth = query.match.keep(static_cast<std::uint32_t>(most), block_tokens);
  return depth < query.minimum_depth ? 0 : depth;
}

std::uint32_t AvailableDepth(const cache::View& view, const cache::Query& query,
                             std::uint32_t block_tokens) {
  std::uint32_t greatest = 0;
  for (const auto& entry : view.entries()) {
    greatest = std::max(greatest, DepthWith(*entry, query, block_tokens));
  }
  return greatest;
}

std::optional<std::int64_t> RankOfDepth(const cache::View& view, const cache::Query& query,
                                        const QueryEmbedding& embedding, float minimum,
                                        std::uint32_t depth, std::uint32_t block_tokens) {
  if (depth == 0) return std::nullopt;
  const std::vector<cache::Candidate> all =
      view.Nearest(embedding.values, embedding.encoder, view.entries().size(), minimum);
  const auto first = std::ranges::find_if(all, [&](const cache::Candidate& candidate) {
    return DepthWith(*view.entries()[candidate.entry], query, block_tokens) >= depth;
  });
  if (first == all.end()) return std::nullopt;
  return first - all.begin() + 1;
}

Found LookUp(const cache::View& view, const engine::Reuse& reuse, const cache::Query& query,
             const QueryEmbedding& embedding) {
  if (reuse.policy == engine::Policy::kPrefix) return {view.WalkPrefix(query), std::nullopt};
  assert(reuse.policy == engine::Policy::kEmbedding);
  const std::vector<cache::Candidate> candidates =
      view.Nearest(embedding.values, embedding.encoder, static_cast<std::size_t>(reuse.candidates),
                   reuse.min_similarity);
  Found found{.plan = view.LongestVerified(candidates, query)};
  if (!candidates.empty()) found.similarity = candidates.front().similarity;
  return found;
}

}  // namespace kvr::experiment
