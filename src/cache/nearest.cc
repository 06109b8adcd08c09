// The embedding policy's look-ups: the nearest entries, and of those the one that serves best.
#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <array>
#include <numeric>
#include <string>
#include <tuple>

#include "kvr/base/error.h"
#include "kvr/cache/view.h"
#include "prefix.h"

namespace kvr::cache {

namespace {

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

}  // namespace

std::vector<Candidate> View::Nearest(std::span<const float> embedding, std::string_view encoder,
                                     std::size_t count, float minimum) const {
  std::vector<Candidate> found;
  for (std::uint32_t i = 0; i < entries_.size(); ++i) {
    const EntryRow& entry = *entries_[i];
    if (entry.embedding.empty() || entry.encoder != encoder) continue;
    if (entry.embedding.size() != embedding.size()) {
      throw InvalidInput(fmt::format("an embedding of {} numbers was given, entry {} has {}",
                                     embedding.size(), Hex(entry.id), entry.embedding.size()));
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

View::Agreement View::AgreementWith(std::uint32_t entry_index, const Query& query) const {
  const EntryRow& entry = *entries_[entry_index];
  const std::uint32_t length = Size(entry.tokens);
  Agreement agreement{.common = CommonPrefix(entry.tokens, query.tokens),
                      .node = node_of_.at(entry.chain.back()),
                      .why = LimitedBy::kDiverged};
  agreement.entire = agreement.common == length;
  if (agreement.common == query.tokens.size()) {
    agreement.why = LimitedBy::kLastToken;
  } else if (agreement.entire) {
    agreement.why = LimitedBy::kEndOfEntry;
  } else if (agreement.common + 1 == length && query.text.starts_with(entry.text)) {
    agreement.why = LimitedBy::kTokenBoundary;
  }
  return agreement;
}

Plan View::LongestVerified(std::span<const Candidate> candidates, const Query& query) const {
  const Candidate* best = nullptr;
  Agreement best_agreement;
  Allowed best_allowed;
  for (const Candidate& candidate : candidates) {
    const Agreement agreement = AgreementWith(candidate.entry, query);
    const Allowed allowed = Allow(agreement, query);
    const auto rank = [&](const Allowed& what, const Agreement& of, const Candidate& c) {
      // Where nothing can be reused, the reason closest to a reuse is the one worth knowing.
      return std::tuple(what.depth, what.depth == 0 ? of.common : 0,
                        entries_[c.entry]->tokens.size(), -std::int64_t{c.entry});
    };
    if (best == nullptr ||
        rank(allowed, agreement, candidate) > rank(best_allowed, best_agreement, *best)) {
      best = &candidate;
      best_agreement = agreement;
      best_allowed = allowed;
    }
  }
  if (best == nullptr) return {};
  Plan plan = MakePlan(best_agreement.node, best_allowed.depth, best_allowed.limited_by, query);
  if (plan.depth > 0) plan.entry = entries_[best->entry]->id;
  plan.similarity = best->similarity;
  plan.compared = static_cast<std::uint32_t>(candidates.size());
  return plan;
}

}  // namespace kvr::cache
