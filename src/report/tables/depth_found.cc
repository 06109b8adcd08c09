#include "depth_pair.h"
#include "table_of.h"
#include "tables.h"

namespace kvr::report {
namespace {

// One number for each prompt of which both depths are known.
struct DepthFoundRow : VariantRow {
  const Cohort& cohort;
  Samples found, by_prefix, available;
  std::int64_t fell_short = 0;
};

DepthFoundRow MakeDepthFoundRow(const Scope& scope, const Cohort& cohort, const Variant& variant) {
  DepthFoundRow row{{{scope}, variant}, cohort};
  for (const PromptCells* prompt : cohort.prompts) {
    const DepthPair depth = DepthsOf(*prompt, variant);
    if (!depth.found || !depth.there) continue;
    row.found.push_back(*depth.found);
    if (depth.by_prefix) row.by_prefix.push_back(*depth.by_prefix);
    row.available.push_back(*depth.there);
    row.fell_short += *depth.found < *depth.there ? 1 : 0;
  }
  return row;
}

// A mean over other prompts than its neighbours' would mislead.
Value PrefixMean(const DepthFoundRow& row) {
  return row.by_prefix.size() == row.found.size() ? Formatted("%.1f", Mean(row.by_prefix))
                                                  : Value{};
}

}  // namespace

Table FoundTable(const std::vector<Scope>& scopes) {
  TableOf<DepthFoundRow> table(
      "Depth found by embedding, against the depth that was there",
      "Mean depth in tokens over prompts of which both depths are known. by prefix: what the "
      "prefix policy found under the same match rule. there: the longest token prefix stored, "
      "whatever the match rule, as the cells recorded it; else what the prefix policy found. "
      "share: sum of found over sum of there. fell short: prompts for which embedding found less "
      "than was there; under whole and block the rule alone can do that.");
  table.Left("workload", [](const DepthFoundRow& row) { return Text(row.cohort.label); })
      .Match()
      .Candidates()
      .Codec()
      .PageCache()
      .Right("prompts", [](const DepthFoundRow& row) { return Count(std::ssize(row.found)); })
      .Right("found_mean", "found",
             [](const DepthFoundRow& row) { return Formatted("%.1f", Mean(row.found)); })
      .Right("prefix_mean", "by prefix", PrefixMean)
      .Right("available_mean", "there",
             [](const DepthFoundRow& row) { return Formatted("%.1f", Mean(row.available)); })
      .Right("found_share", "share",
             [](const DepthFoundRow& row) {
               return Percent(Quotient(Mean(row.found), Mean(row.available)));
             })
      .Right("short", "fell short", [](const DepthFoundRow& row) { return Count(row.fell_short); });
  ForEachGroup(scopes, false,
               [&](const Scope& scope, const Cohort& cohort, const Variant& variant, const Cells&) {
                 if (variant.policy != "embedding") return;
                 const DepthFoundRow row = MakeDepthFoundRow(scope, cohort, variant);
                 if (!row.found.empty()) table.Add(row);
               });
  return table.Finish();
}

}  // namespace kvr::report
