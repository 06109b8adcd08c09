// The look-ups of runs that generate nothing, in groups: one scope, number of distractors and way
// of finding entries.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "samples.h"

namespace kvr::report {

// One query's look-ups by one way, a repetition each; they differ in their times only.
using Repetitions = std::vector<const Lookup*>;

struct LookupGroup {
  const Scope* scope = nullptr;
  const Lookup* first = nullptr;     // which says what all have in common
  std::vector<Repetitions> queries;  // in the order of the run's first repetition

  [[nodiscard]] const Lookup& Of(const Repetitions& query) const { return *query.front(); }
  // "embedding/token, 5 candidates"
  [[nodiscard]] std::string Title() const;
};

// By number of distractors, then policy, match and candidates.
[[nodiscard]] std::vector<LookupGroup> LookupGroupsOf(const Scope& scope);

// The group's queries for which `wanted` holds.
[[nodiscard]] LookupGroup Only(const LookupGroup& group,
                               const std::function<bool(const Lookup&)>& wanted);

// What became of a group's queries.
struct Recall {
  std::int64_t queries = 0;
  std::int64_t with_depth = 0;  // of them, those for which an entry has any depth to give
  std::int64_t found_all = 0;   // of these, those that got the available depth
  Number depth;                 // mean over these of the depth found over the available one
  std::optional<record::Interval> interval;  // its own, 95 %
  Number available;                          // mean over all queries, in tokens
  Number rank, rank_p95;                     // of the entry that gives the available depth
  Number embed_ms, lookup_ms;                // medians over queries of medians over repetitions
};
[[nodiscard]] Recall RecallOf(const LookupGroup& group);

}  // namespace kvr::report
