#include "table_of.h"
#include "tables.h"

namespace kvr::report {

Table MarkTable(const std::vector<Scope>& scopes) {
  struct Row : VariantRow {
    const Cohort& cohort;
    std::int64_t mark;
    std::optional<Estimate> total;
  };
  TableOf<Row> table(
      "Total speed-up by number of new tokens",
      "What is gained before the first token is shared by all that follow. total: "
      "geometric mean over prompts of the baseline's median time to that many new tokens "
      "over the recycled one, with its 95 % interval and adjusted p as in workloads; prompts with "
      "three "
      "cells or more of each arm that came so far.");
  table.Left("workload", [](const Row& row) { return Text(row.cohort.label); })
      .HowReused()
      .Right("new_tokens", [](const Row& row) { return Count(row.mark); })
      .Right("prompts",
             [](const Row& row) { return Count(static_cast<std::int64_t>(row.total->prompts)); })
      .Interval("total_speedup", "total", &Row::total)
      .PHolm("total_speedup", &Row::total);
  for (const Scope& scope : scopes) {
    for (const Cohort& cohort : CohortsOf(scope)) {
      for (const Variant& variant : scope.NullAndVariants()) {
        for (const std::int64_t mark : MarksOf(scope)) {
          const std::optional<Estimate> total = TotalEstimateAt(cohort.prompts, variant, mark);
          if (total) table.Add({{{scope}, variant}, cohort, mark, total});
        }
      }
    }
  }
  return table.Finish();
}

}  // namespace kvr::report
