#include "lookups.h"

#include <map>
#include <tuple>

namespace kvr::report {
namespace {

template <typename Field>
Number MedianOverQueries(const LookupGroup& group, Field field) {
  Samples medians;
  for (const Repetitions& query : group.queries) {
    Samples times;
    for (const Lookup* lookup : query) {
      if (const Number time = std::invoke(field, *lookup)) times.push_back(*time);
    }
    if (const Number median = Median(times)) medians.push_back(*median);
  }
  return Median(medians);
}

}  // namespace

std::string LookupGroup::Title() const {
  return Variant{first->policy, first->match, "fp32", first->candidates, "warm"}.Title();
}

std::vector<LookupGroup> LookupGroupsOf(const Scope& scope) {
  std::map<std::tuple<std::int64_t, std::string, std::string, std::optional<std::int64_t>>,
           LookupGroup>
      groups;
  std::map<std::string, std::size_t> place;  // of each query in a group's, by group and name
  for (const Lookup& lookup : scope.run->lookups) {
    if (lookup.model != scope.model || lookup.precision != scope.precision) continue;
    LookupGroup& group =
        groups[{lookup.distractors, lookup.policy, lookup.match, lookup.candidates}];
    group.scope = &scope;
    if (group.first == nullptr) group.first = &lookup;
    Lookup same = lookup;
    same.repetition = 0;
    const auto [at, fresh] = place.emplace(Identity(same), group.queries.size());
    if (fresh) group.queries.emplace_back();
    group.queries[at->second].push_back(&lookup);
  }
  std::vector<LookupGroup> sorted;
  sorted.reserve(groups.size());
  for (auto& [key, group] : groups) sorted.push_back(std::move(group));
  return sorted;
}

LookupGroup Only(const LookupGroup& group, const std::function<bool(const Lookup&)>& wanted) {
  LookupGroup only{group.scope, group.first, {}};
  for (const Repetitions& query : group.queries) {
    if (wanted(*query.front())) only.queries.push_back(query);
  }
  return only;
}

Recall RecallOf(const LookupGroup& group) {
  Recall recall{.queries = std::ssize(group.queries)};
  Samples shares, available, ranks;
  for (const Repetitions& query : group.queries) {
    const Lookup& lookup = *query.front();
    available.push_back(static_cast<double>(lookup.available_depth));
    if (lookup.available_depth == 0) continue;
    ++recall.with_depth;
    if (lookup.reuse_depth == lookup.available_depth) ++recall.found_all;
    shares.push_back(static_cast<double>(lookup.reuse_depth) /
                     static_cast<double>(lookup.available_depth));
    if (lookup.rank) ranks.push_back(static_cast<double>(*lookup.rank));
  }
  recall.depth = Mean(shares);
  if (recall.depth) recall.interval = record::ShareInterval(*recall.depth, shares.size());
  recall.available = Mean(available);
  recall.rank = Median(ranks);
  recall.rank_p95 = Percentile(ranks, 0.95);
  recall.embed_ms = MedianOverQueries(group, [](const Lookup& lookup) { return lookup.embed_ms; });
  recall.lookup_ms =
      MedianOverQueries(group, [](const Lookup& lookup) { return Number(lookup.lookup_ms); });
  return recall;
}

}  // namespace kvr::report
