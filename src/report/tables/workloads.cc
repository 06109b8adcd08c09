#include "table_of.h"
#include "tables.h"

namespace kvr::report {
namespace {

struct WorkloadsRow : VariantRow {
  const Cohort& cohort;
  const Cells& cells;
  std::vector<const PromptCells*> prompts, hit;  // with cells of the variant; with hits
  std::optional<Estimate> ttft, total, ttft_of_hits;
};

WorkloadsRow MakeWorkloadsRow(const Scope& scope, const Cohort& cohort, const Variant& variant,
                              const Cells& cells) {
  WorkloadsRow row{{{scope}, variant}, cohort, cells};
  for (const PromptCells* prompt : cohort.prompts) {
    const Cells& own = RecycledBy(*prompt, variant);
    if (!own.empty()) row.prompts.push_back(prompt);
    if (CountIf(own, IsHit) > 0) row.hit.push_back(prompt);
  }
  row.ttft = TtftEstimate(row.prompts, variant);
  row.total = TotalEstimate(row.prompts, variant);
  row.ttft_of_hits = TtftEstimate(row.hit, variant);
  return row;
}

Value ReusedShare(const WorkloadsRow& row) {
  std::int64_t depth = 0, tokens = 0;
  for (const Cell* cell : row.cells) {
    depth += cell->reuse_depth;
    tokens += cell->prompt_tokens;
  }
  return Percent(Quotient(depth, tokens));
}

}  // namespace

Table SpeedTable(const std::vector<Scope>& scopes) {
  TableOf<WorkloadsRow> table(
      "Speed by workload",
      "speedup: geometric mean over prompts, hits and misses alike, of the baseline's median TTFT "
      "over the recycled median TTFT; low and high: its 95 % t interval on log ratios; prompts "
      "that share a cached parent are one cluster, groups are strata (none for fewer than three "
      "clusters). p (Holm): of a speedup against 1, adjusted over all rows of the table, of which "
      "those at most 0.05 may be said to differ together. of hits: the same over prompts that were "
      "hit. total: the same for the time to "
      "the last new token that both arms have, of three decoded cells or more in each arm. hits: "
      "cells. depth: mean over hits. reused: restored tokens among all prompt tokens. Policy off "
      "is the null variant: the baseline's work sent through the recycled arm; it must read 1. "
      "The control groups are those that the configuration names, but for groups that had hits.");
  table.Left("workload", [](const WorkloadsRow& row) { return Text(row.cohort.label); })
      .HowReused()
      .Right("prompts", [](const WorkloadsRow& row) { return Count(std::ssize(row.prompts)); })
      .Right("clusters",
             [](const WorkloadsRow& row) {
               return row.ttft ? Count(static_cast<std::int64_t>(row.ttft->clusters)) : Value{};
             })
      .Right("cells", [](const WorkloadsRow& row) { return Count(std::ssize(row.cells)); })
      .Right("hits", [](const WorkloadsRow& row) { return Count(CountIf(row.cells, IsHit)); })
      .Right("hit_depth_mean", "depth",
             [](const WorkloadsRow& row) {
               return Formatted("%.1f", Mean(Collect(Only(row.cells, IsHit), Depth)));
             })
      .Right("reused_share", "reused", ReusedShare)
      .Interval("ttft_speedup", "speedup", &WorkloadsRow::ttft)
      .PHolm("ttft_speedup", &WorkloadsRow::ttft)
      .Right("ttft_speedup_of_hits", "of hits",
             [](const WorkloadsRow& row) { return Ratio(row.ttft_of_hits); })
      .Interval("total_speedup", "total", &WorkloadsRow::total)
      .PHolm("total_speedup", &WorkloadsRow::total);
  ForEachGroup(
      scopes, true,
      [&](const Scope& scope, const Cohort& cohort, const Variant& variant, const Cells& cells) {
        table.Add(MakeWorkloadsRow(scope, cohort, variant, cells));
      });
  return table.Finish();
}

}  // namespace kvr::report
