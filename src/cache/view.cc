#include "kvr/cache/view.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <string>
#include <tuple>

#include "kvr/base/error.h"

namespace kvr::cache {

namespace {

std::uint32_t CommonPrefix(std::span<const Token> a, std::span<const Token> b) {
  return static_cast<std::uint32_t>(std::ranges::mismatch(a, b).in1 - a.begin());
}

// A plain loop; the separate sums let the compiler use vector registers without reordering
// additions behind our back.
float Dot(std::span<const float> a, std::span<const float> b) {
  constexpr std::size_t kLanes = 16;
  std::array<float, kLanes> sums{};
  std::size_t i = 0;
  for (; i + kLanes <= a.size(); i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) sums[lane] += a[i + lane] * b[i + lane];
  }
  for (; i < a.size(); ++i) sums[0] += a[i] * b[i];
  return std::accumulate(sums.begin(), sums.end(), 0.0F);
}

std::uint32_t Size(std::span<const Token> tokens) {
  return static_cast<std::uint32_t>(tokens.size());
}

// The prompt's tokens but the last, which always runs.
std::uint32_t MostReusable(const Query& query) {
  return query.tokens.empty() ? 0 : Size(query.tokens) - 1;
}

constexpr std::array<const char*, 3> kMatchNames = {"whole", "token", "block"};

}  // namespace

const char* ToString(Match match) { return kMatchNames[static_cast<std::size_t>(match)]; }

Match MatchFromString(std::string_view text) {
  for (std::size_t i = 0; i < kMatchNames.size(); ++i) {
    if (text == kMatchNames[i]) return static_cast<Match>(i);
  }
  throw InvalidInput("match '" + std::string(text) + "' found, expected whole, token or block");
}

const char* ToString(LimitedBy limited_by) {
  switch (limited_by) {
    case LimitedBy::kEndOfEntry:
      return "end_of_entry";
    case LimitedBy::kDiverged:
      return "diverged";
    case LimitedBy::kBlockEdge:
      return "block_edge";
    case LimitedBy::kLastToken:
      return "last_token";
    case LimitedBy::kNoCandidate:
      return "no_candidate";
    case LimitedBy::kNotPrefix:
      return "not_prefix";
    case LimitedBy::kTokenBoundary:
      return "token_boundary";
    case LimitedBy::kBelowMinimum:
      return "below_minimum";
    case LimitedBy::kEvicted:
      return "evicted";
    case LimitedBy::kCorrupt:
      return "corrupt";
    case LimitedBy::kUnreadable:
      return "unreadable";
  }
  return "unknown";
}

// What one entry has for a prompt.
struct View::Verdict {
  std::uint32_t common = 0;  // longest common prefix
  std::uint32_t depth = 0;
  LimitedBy limited_by = LimitedBy::kNoCandidate;
};

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
    throw Corrupt("cache index: entry " + Hex(row.id) + " has " + std::to_string(row.chain.size()) +
                  " blocks for " + std::to_string(row.tokens.size()) + " tokens");
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

std::vector<Candidate> View::Nearest(std::span<const float> embedding, std::string_view encoder,
                                     std::size_t count, float minimum) const {
  std::vector<Candidate> found;
  for (std::uint32_t i = 0; i < entries_.size(); ++i) {
    const EntryRow& entry = *entries_[i];
    if (entry.embedding.empty() || entry.encoder != encoder) continue;
    if (entry.embedding.size() != embedding.size()) {
      throw InvalidInput("an embedding of " + std::to_string(embedding.size()) +
                         " numbers was given, entry " + Hex(entry.id) + " has " +
                         std::to_string(entry.embedding.size()));
    }
    const float similarity = Dot(embedding, entry.embedding);
    if (similarity >= minimum) found.push_back({i, similarity});
  }
  const auto middle = found.begin() + static_cast<std::ptrdiff_t>(std::min(count, found.size()));
  // The index into entries_ is the order of age.
  std::partial_sort(found.begin(), middle, found.end(), [&](const auto& a, const auto& b) {
    return std::tuple(b.similarity, entries_[b.entry]->tokens.size(), a.entry) <
           std::tuple(a.similarity, entries_[a.entry]->tokens.size(), b.entry);
  });
  found.erase(middle, found.end());
  return found;
}

View::Verdict View::Judge(std::uint32_t entry_index, const Query& query) const {
  const EntryRow& entry = *entries_[entry_index];
  const std::uint32_t length = Size(entry.tokens);
  const std::uint32_t prompt = Size(query.tokens);
  Verdict verdict;
  verdict.common = CommonPrefix(entry.tokens, query.tokens);
  LimitedBy why = LimitedBy::kDiverged;
  if (verdict.common == prompt) {
    why = LimitedBy::kLastToken;
  } else if (verdict.common == length) {
    why = LimitedBy::kEndOfEntry;
  } else if (verdict.common + 1 == length && query.text.starts_with(entry.text)) {
    why = LimitedBy::kTokenBoundary;
  }
  verdict.limited_by = why;
  const std::uint32_t reusable = std::min(verdict.common, MostReusable(query));
  verdict.depth = reusable;
  if (query.match == Match::kBlock) {
    verdict.depth -= reusable % block_tokens_;
    if (verdict.depth < reusable) verdict.limited_by = LimitedBy::kBlockEdge;
  } else if (query.match == Match::kWhole && verdict.common < length) {
    verdict.depth = 0;
    if (why != LimitedBy::kTokenBoundary) verdict.limited_by = LimitedBy::kNotPrefix;
  }
  std::uint32_t node = node_of_.at(entry.chain.back());
  while (!nodes_[node].stored) node = nodes_[node].parent;
  if (nodes_[node].depth < verdict.depth) {
    verdict.depth = query.match == Match::kWhole ? 0 : nodes_[node].depth;
    verdict.limited_by = LimitedBy::kEvicted;
  }
  return verdict;
}

Plan View::LongestVerified(std::span<const Candidate> candidates, const Query& query) const {
  const Candidate* best = nullptr;
  Verdict best_verdict;
  for (const Candidate& candidate : candidates) {
    const Verdict verdict = Judge(candidate.entry, query);
    const auto rank = [&](const Verdict& v, const Candidate& c) {
      // Where nothing can be reused, the reason closest to a reuse is the one worth knowing.
      return std::tuple(v.depth, v.depth == 0 ? v.common : 0, entries_[c.entry]->tokens.size(),
                        -std::int64_t{c.entry});
    };
    if (best == nullptr || rank(verdict, candidate) > rank(best_verdict, *best)) {
      best = &candidate;
      best_verdict = verdict;
    }
  }
  if (best == nullptr) return {};
  Plan plan = MakePlan(node_of_.at(entries_[best->entry]->chain.back()), best_verdict.depth,
                       best_verdict.limited_by, query);
  if (plan.depth > 0) plan.entry = entries_[best->entry]->id;
  plan.similarity = best->similarity;
  return plan;
}

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

Plan View::WalkPrefix(const Query& query) const {
  const std::uint32_t prompt = Size(query.tokens);
  std::uint32_t last = 0;  // the last block wholly matched
  while (nodes_[last].depth + block_tokens_ <= prompt) {
    const auto found = node_of_.find(
        ChainHash(nodes_[last].hash, query.tokens.subspan(nodes_[last].depth, block_tokens_)));
    if (found == node_of_.end() || nodes_[found->second].parent != last) break;
    last = found->second;
  }
  const Node& node = nodes_[last];
  const auto probe = query.tokens.subspan(node.depth);
  // Sharing the longest prefix with the probe, in sorted order, is one of its two neighbours.
  const auto at = FirstChild(node, probe);
  std::uint32_t inside = 0;
  if (at != node.children.end()) inside = CommonPrefix(nodes_[*at].tokens, probe);
  if (at != node.children.begin()) {
    inside = std::max(inside, CommonPrefix(nodes_[*std::prev(at)].tokens, probe));
  }
  const std::uint32_t common = node.depth + inside;
  // The first child that shares it is the tail that ends there, if there is one.
  const std::uint32_t end = inside > 0 ? *FirstChild(node, probe.first(inside)) : last;

  const bool token_boundary = common < prompt && EndsInTokenBoundary(last, common, query);
  if (query.match == Match::kWhole) {
    bool evicted = false;
    if (const auto whole = WholeEntry(last, query, &evicted)) {
      const std::uint32_t depth = std::min(nodes_[*whole].depth, MostReusable(query));
      return MakePlan(
          *whole, depth,
          nodes_[*whole].depth == prompt ? LimitedBy::kLastToken : LimitedBy::kEndOfEntry, query);
    }
    return MakePlan(0, 0,
                    evicted          ? LimitedBy::kEvicted
                    : token_boundary ? LimitedBy::kTokenBoundary
                    : common == 0    ? LimitedBy::kNoCandidate
                                     : LimitedBy::kNotPrefix,
                    query);
  }

  LimitedBy why = common == 0 ? LimitedBy::kNoCandidate : LimitedBy::kDiverged;
  if (common > 0 && common == prompt) {
    why = LimitedBy::kLastToken;
  } else if (nodes_[end].depth == common && !nodes_[end].ends.empty()) {
    why = LimitedBy::kEndOfEntry;
  } else if (token_boundary) {
    why = LimitedBy::kTokenBoundary;
  }
  std::uint32_t depth = std::min(common, MostReusable(query));
  if (query.match == Match::kBlock && depth % block_tokens_ != 0) {
    depth -= depth % block_tokens_;
    why = LimitedBy::kBlockEdge;
  }
  std::uint32_t stored = end;
  while (!nodes_[stored].stored) stored = nodes_[stored].parent;
  if (nodes_[stored].depth < depth) {
    depth = nodes_[stored].depth;
    why = LimitedBy::kEvicted;
  }
  return MakePlan(stored, depth, why, query);
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
