#include <spdlog/fmt/fmt.h>

#include <array>
#include <limits>

#include "../lookups.h"
#include "table_of.h"
#include "tables.h"

namespace kvr::report {
namespace {

struct RetrievalRow : ScopeRow {
  const LookupGroup& group;
  std::string label;
  Recall recall;
};

// The columns behind the one that tells what queries a row is about.
TableOf<RetrievalRow>& Columns(TableOf<RetrievalRow>& table, const char* key, const char* head) {
  return table
      .Right("distractors",
             [](const RetrievalRow& row) { return Count(row.group.first->distractors); })
      .Right("entries", [](const RetrievalRow& row) { return Count(row.group.first->entries); })
      .Left("policy", [](const RetrievalRow& row) { return Text(row.group.first->policy); })
      .Left("match", [](const RetrievalRow& row) { return Text(row.group.first->match); })
      .Right("k",
             [](const RetrievalRow& row) {
               const auto& k = row.group.first->candidates;
               return k ? Count(*k) : Value{};
             })
      .Left(key, head, [](const RetrievalRow& row) { return Text(row.label); })
      .Right("queries", [](const RetrievalRow& row) { return Count(row.recall.queries); })
      .Right("available_depth", "there",
             [](const RetrievalRow& row) { return Formatted("%.1f", row.recall.available); })
      .Right("recall", [](const RetrievalRow& row) { return Formatted("%.3f", row.recall.depth); })
      .Right("recall_low", "low",
             [](const RetrievalRow& row) {
               return row.recall.interval ? Formatted("%.3f", row.recall.interval->low) : Value{};
             })
      .Right("recall_high", "high",
             [](const RetrievalRow& row) {
               return row.recall.interval ? Formatted("%.3f", row.recall.interval->high) : Value{};
             })
      .Right(
          "found_all",
          [](const RetrievalRow& row) { return Rate(row.recall.found_all, row.recall.with_depth); })
      .Right("rank_median", "rank",
             [](const RetrievalRow& row) { return Formatted("%.0f", row.recall.rank); })
      .Right("rank_p95", "p95",
             [](const RetrievalRow& row) { return Formatted("%.0f", row.recall.rank_p95); })
      .Right("embed_ms", [](const RetrievalRow& row) { return Ms(row.recall.embed_ms); })
      .Right("lookup_ms", [](const RetrievalRow& row) { return Ms(row.recall.lookup_ms); });
}

constexpr const char* kNote =
    "there: mean depth in tokens that the match rule allows with the best of all entries. recall: "
    "mean over queries of the depth found over that, of queries for which it is not 0; low, high: "
    "its 95 % interval (Wilson), the query being the unit; found all: "
    "how many of these got it all. policy embedding takes the best of the k nearest. rank: place "
    "of the best entry in the order of similarity, median and 95th percentile. embed, lookup: "
    "medians over queries.";

void AddRow(const LookupGroup& group, const LookupGroup& part, const std::string& label,
            TableOf<RetrievalRow>* table) {
  if (part.queries.empty()) return;
  table->Add({{*group.scope}, group, label, RecallOf(part)});
}

// Numbers of word pieces, up to and with; all beyond the last are one more bucket.
constexpr std::array<std::int64_t, 5> kEdges = {64, 128, 256, 512, 1024};

std::string BucketLabel(std::size_t bucket) {
  if (bucket == kEdges.size()) return fmt::format("{}+", kEdges.back() + 1);
  return fmt::format("{}-{}", bucket == 0 ? 1 : kEdges[bucket - 1] + 1, kEdges[bucket]);
}

std::size_t LengthBucketOf(const Lookup& lookup) {
  const auto edge = std::lower_bound(kEdges.begin(), kEdges.end(), lookup.pieces);
  return static_cast<std::size_t>(edge - kEdges.begin());
}

}  // namespace

Table RetrievalTable(const std::vector<Scope>& scopes) {
  TableOf<RetrievalRow> table(
      "Depth found of the depth that was there, by number of entries and length of the query",
      std::string("All queries but the controls. pieces: word pieces of the query; the encoder "
                  "reads no more than its context. ") +
          kNote);
  Columns(table, "pieces", "pieces");
  for (const Scope& scope : scopes) {
    for (const LookupGroup& group : LookupGroupsOf(scope)) {
      const LookupGroup tested = Only(group, [](const Lookup& l) { return !l.control; });
      AddRow(group, tested, "all", &table);
      for (std::size_t bucket = 0; bucket <= kEdges.size(); ++bucket) {
        AddRow(group, Only(tested, [&](const Lookup& l) { return LengthBucketOf(l) == bucket; }),
               BucketLabel(bucket), &table);
      }
    }
  }
  return table.Finish();
}

Table RetrievalKindTable(const std::vector<Scope>& scopes) {
  TableOf<RetrievalRow> table(
      "Depth found of the depth that was there, by what the cache has of the query",
      std::string("workload: as the config's document says; those that are cached "
                  "nothing of find tokens shared by chance. ") +
          kNote);
  Columns(table, "workload", "workload");
  for (const Scope& scope : scopes) {
    for (const LookupGroup& group : LookupGroupsOf(scope)) {
      std::vector<std::string> kinds;
      for (const Repetitions& query : group.queries) {
        const std::string& kind = query.front()->workload;
        if (std::find(kinds.begin(), kinds.end(), kind) == kinds.end()) kinds.push_back(kind);
      }
      std::sort(kinds.begin(), kinds.end());
      for (const std::string& kind : kinds) {
        AddRow(group, Only(group, [&](const Lookup& l) { return l.workload == kind; }), kind,
               &table);
      }
    }
  }
  return table.Finish();
}

}  // namespace kvr::report
