// The prefix policy's look-up: chain hashes walked from the root.
#include <algorithm>

#include "kvr/cache/view.h"
#include "prefix.h"

namespace kvr::cache {

std::vector<std::uint32_t>::const_iterator View::FirstChild(const Node& node,
                                                            std::span<const Token> tokens) const {
  return std::ranges::lower_bound(
      node.children, tokens,
      [](auto a, auto b) { return std::ranges::lexicographical_compare(a, b); },
      [&](std::uint32_t child) { return nodes_[child].tokens; });
}

std::optional<std::uint32_t> View::WholeEntry(std::uint32_t node_index, const Query& query,
                                              bool* evicted) const {
  for (;; node_index = nodes_[node_index].parent) {
    const Node& node = nodes_[node_index];
    auto rest = query.tokens.subspan(node.depth);
    // Tails first. The last child up to `rest` in order either is a prefix of it, and then the
    // longest one, or shows how much shorter one would have to be.
    while (!rest.empty()) {
      auto at = FirstChild(node, rest);
      if (at == node.children.end() || CommonPrefix(nodes_[*at].tokens, rest) < rest.size() ||
          nodes_[*at].tokens.size() > rest.size()) {
        if (at == node.children.begin()) break;
        --at;
      }
      const Node& child = nodes_[*at];
      const std::uint32_t common = CommonPrefix(child.tokens, rest);
      const bool whole = common == child.tokens.size();
      if (whole && !child.ends.empty()) {
        if (child.stored) return *at;
        *evicted = true;
      }
      rest = rest.first(whole ? common - 1 : common);
    }
    if (node_index == 0) return std::nullopt;
    if (!node.ends.empty()) {
      if (node.stored) return node_index;
      *evicted = true;
    }
  }
}

bool View::EndsInTokenBoundary(std::uint32_t node_index, std::uint32_t common,
                               const Query& query) const {
  const Node& node = nodes_[node_index];
  const auto shared = query.tokens.subspan(node.depth, common - node.depth);
  for (auto at = FirstChild(node, shared); at != node.children.end(); ++at) {
    const Node& child = nodes_[*at];
    if (CommonPrefix(child.tokens, shared) < shared.size()) return false;
    if (child.depth != common + 1) continue;
    for (const std::uint32_t entry : child.ends) {
      if (query.text.starts_with(entries_[entry]->text)) return true;
    }
  }
  return false;
}

View::Agreement View::LongestAgreement(const Query& query, std::uint32_t* block) const {
  const std::uint32_t prompt = Size(query.tokens);
  std::uint32_t last = 0;  // the last block wholly matched
  while (nodes_[last].depth + block_tokens_ <= prompt) {
    const auto found = node_of_.find(
        ChainHash(nodes_[last].hash, query.tokens.subspan(nodes_[last].depth, block_tokens_)));
    if (found == node_of_.end() || nodes_[found->second].parent != last) break;
    last = found->second;
  }
  *block = last;
  const Node& node = nodes_[last];
  const auto probe = query.tokens.subspan(node.depth);
  // Sharing the longest prefix with the probe, in sorted order, is one of its two neighbours.
  const auto at = FirstChild(node, probe);
  std::uint32_t inside = 0;
  if (at != node.children.end()) inside = CommonPrefix(nodes_[*at].tokens, probe);
  if (at != node.children.begin()) {
    inside = std::max(inside, CommonPrefix(nodes_[*std::prev(at)].tokens, probe));
  }
  // The first child that shares it is the tail that ends there, if there is one.
  Agreement agreement{.common = node.depth + inside,
                      .node = inside > 0 ? *FirstChild(node, probe.first(inside)) : last};
  const std::uint32_t common = agreement.common;
  const Node& end = nodes_[agreement.node];
  if (common > 0) agreement.why = LimitedBy::kDiverged;
  if (common > 0 && common == prompt) {
    agreement.why = LimitedBy::kLastToken;
  } else if (end.depth == common && !end.ends.empty()) {
    agreement.why = LimitedBy::kEndOfEntry;
  } else if (common < prompt && EndsInTokenBoundary(last, common, query)) {
    agreement.why = LimitedBy::kTokenBoundary;
  }
  return agreement;
}

std::optional<View::Agreement> View::LongestEntire(std::uint32_t block, const Query& query,
                                                   bool* evicted) const {
  const std::optional<std::uint32_t> whole = WholeEntry(block, query, evicted);
  if (!whole) return std::nullopt;
  const std::uint32_t depth = nodes_[*whole].depth;
  return Agreement{
      .common = depth,
      .node = *whole,
      .entire = true,
      .why = depth == query.tokens.size() ? LimitedBy::kLastToken : LimitedBy::kEndOfEntry};
}

Plan View::WalkPrefix(const Query& query) const {
  std::uint32_t block = 0;
  Agreement agreement = LongestAgreement(query, &block);
  if (query.match.entire_entry) {
    bool evicted = false;
    if (const auto entire = LongestEntire(block, query, &evicted)) {
      agreement = *entire;
    } else if (evicted) {
      return MakePlan(0, 0, LimitedBy::kEvicted, query);
    }
  }
  const Allowed allowed = Allow(agreement, query);
  return MakePlan(agreement.node, allowed.depth, allowed.limited_by, query);
}

}  // namespace kvr::cache
