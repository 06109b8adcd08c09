#include "kvr/cache/view.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <numeric>
#include <string>

#include "kvr/base/error.h"
#include "prefix.h"

namespace kvr::cache {

View::View(IndexPicture picture, const Digest& root, std::uint32_t block_tokens) {
  Entries entries;
  for (EntryRow& entry : picture.entries) {
    entries.push_back(std::make_shared<const EntryRow>(std::move(entry)));
  }
  auto stored = std::make_shared<Hashes>();
  for (const auto& [hash, block] : picture.blocks) stored->insert(hash);
  *this = View(std::move(entries), std::move(stored), root, block_tokens);
}

View::View(Entries entries, std::shared_ptr<const Hashes> stored, const Digest& root,
           std::uint32_t block_tokens)
    : root_(root),
      block_tokens_(block_tokens),
      entries_(std::move(entries)),
      stored_(std::move(stored)) {
  nodes_.push_back({.hash = root, .stored = true});
  // The longest first, so that the first entry to reach a node is the longest through it; entries_
  // is ordered by age, and so is what the stable sort leaves equal.
  std::vector<std::uint32_t> order(entries_.size());
  std::iota(order.begin(), order.end(), 0U);
  std::ranges::stable_sort(order, [&](auto a, auto b) {
    return entries_[a]->tokens.size() > entries_[b]->tokens.size();
  });
  for (const std::uint32_t entry : order) AddNodes(entry);
  for (Node& node : nodes_) {
    std::ranges::sort(node.children, [&](auto a, auto b) {
      return std::ranges::lexicographical_compare(nodes_[a].tokens, nodes_[b].tokens);
    });
  }
}

void View::AddNodes(std::uint32_t entry) {
  const EntryRow& row = *entries_[entry];
  if (row.chain.size() != (row.tokens.size() + block_tokens_ - 1) / block_tokens_) {
    throw Corrupt(fmt::format("cache index: entry {} has {} blocks for {} tokens", Hex(row.id),
                              row.chain.size(), row.tokens.size()));
  }
  std::uint32_t node = 0;
  for (const Digest& hash : row.chain) {
    const auto [found, added] =
        node_of_.try_emplace(hash, static_cast<std::uint32_t>(nodes_.size()));
    if (added) {
      const std::uint32_t first = nodes_[node].depth;
      const auto tokens =
          std::span(row.tokens)
              .subspan(first, std::min<std::size_t>(block_tokens_, row.tokens.size() - first));
      nodes_[node].children.push_back(found->second);
      nodes_.push_back({.hash = hash,
                        .parent = node,
                        .depth = first + Size(tokens),
                        .tokens = tokens,
                        .stored = nodes_[node].stored && stored_->contains(hash),
                        .longest = entry});
    }
    node = found->second;
  }
  nodes_[node].ends.push_back(entry);
}

View View::Subset(std::span<const Digest> ids) const {
  std::unordered_set<Digest, DigestHasher> wanted(ids.begin(), ids.end());
  Entries entries;
  for (const auto& entry : entries_) {
    if (wanted.erase(entry->id) > 0) entries.push_back(entry);
  }
  if (!wanted.empty()) throw NotFound("the cache has no entry " + Hex(*wanted.begin()));
  return {std::move(entries), stored_, root_, block_tokens_};
}

View::Allowed View::Allow(const Agreement& agreement, const Query& query) const {
  const Match& match = query.match;
  Allowed allowed{.limited_by = agreement.why};
  if (match.entire_entry && !agreement.entire) {
    if (agreement.why != LimitedBy::kTokenBoundary && agreement.why != LimitedBy::kNoCandidate) {
      allowed.limited_by = match.reason;
    }
    return allowed;
  }
  // The prompt's last token always runs.
  const std::uint32_t most =
      std::min(agreement.common, query.tokens.empty() ? 0 : Size(query.tokens) - 1);
  allowed.depth = match.keep(most, block_tokens_);
  if (allowed.depth < most) allowed.limited_by = match.reason;
  std::uint32_t node = agreement.node;
  while (!nodes_[node].stored) node = nodes_[node].parent;
  if (nodes_[node].depth < allowed.depth) {
    allowed.depth = match.entire_entry ? 0 : match.keep(nodes_[node].depth, block_tokens_);
    allowed.limited_by = LimitedBy::kEvicted;
  }
  return allowed;
}

Plan View::MakePlan(std::uint32_t node, std::uint32_t depth, LimitedBy limited_by,
                    const Query& query) const {
  Plan plan;
  plan.limited_by = limited_by;
  if (depth == 0) return plan;
  if (depth < query.minimum_depth) {
    plan.limited_by = LimitedBy::kBelowMinimum;
    return plan;
  }
  while (nodes_[nodes_[node].parent].depth >= depth) node = nodes_[node].parent;
  const Node& last = nodes_[node];
  plan.entry =
      entries_[last.depth == depth && !last.ends.empty() ? last.ends[0] : last.longest]->id;
  plan.depth = depth;
  plan.tokens.assign(query.tokens.begin(), query.tokens.begin() + depth);
  for (; node != 0; node = nodes_[node].parent) {
    const Node& block = nodes_[node];
    const std::uint32_t first = nodes_[block.parent].depth;
    plan.blocks.push_back(
        {block.hash, first, block.depth - first, std::min(block.depth, depth) - first});
  }
  std::ranges::reverse(plan.blocks);
  return plan;
}

}  // namespace kvr::cache
