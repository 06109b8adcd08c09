#include "table_of.h"
#include "tables.h"

namespace kvr::report {

Table FidelityTable(const std::vector<Scope>& scopes) {
  struct Row : VariantRow {
    const Cohort& cohort;
    const Cells& cells;
    Cells to_the_end = Only(cells, IsComparedToTheEnd);
    Cells at_first = Only(cells, IsComparedAtFirst);
  };
  TableOf<Row> table(
      "Fidelity by workload",
      "Recycled cells, hits and misses, against the baseline that ran before their prompt's "
      "cells. to the end, at first: cells compared to their last token, and at the first token "
      "only; exact: all logits and tokens compared equal bit for bit. max abs diff: the greatest "
      "absolute difference of any logit. mean KL, top-1 (share of steps where both have the same "
      "most likely token), cosine and ROUGE-L: means over cells; KL in nats along the baseline's "
      "tokens.");
  table.Left("workload", [](const Row& row) { return Text(row.cohort.label); })
      .HowReused()
      .Right("cells", [](const Row& row) { return Count(std::ssize(row.cells)); })
      .Right("compared", "to the end",
             [](const Row& row) { return Count(std::ssize(row.to_the_end)); })
      .Right("exact_share", "exact", [](const Row& row) { return RateOf(row.to_the_end, IsExact); })
      .Right("compared_at_first", "at first",
             [](const Row& row) { return Count(std::ssize(row.at_first)); })
      .Right("exact_share_at_first", "exact",
             [](const Row& row) { return RateOf(row.at_first, IsExact); })
      .Right(
          "max_abs_logit_diff", "max abs diff",
          [](const Row& row) { return Small(Greatest(row.cells, &Fidelity::max_abs_logit_diff)); })
      .Right("kl_mean", "mean KL",
             [](const Row& row) { return Small(MeanOf(row.cells, &Fidelity::kl_mean)); })
      .Right("kl_max", "max KL",
             [](const Row& row) { return Small(Greatest(row.cells, &Fidelity::kl_max)); })
      .Right("top1", "top-1",
             [](const Row& row) { return Formatted("%.4f", MeanOf(row.cells, &Fidelity::top1)); })
      .Right("output_cosine", "cosine",
             [](const Row& row) { return Semantic(row.cells, &Fidelity::cosine); })
      .Right("rouge_l", "ROUGE-L",
             [](const Row& row) { return Semantic(row.cells, &Fidelity::rouge_l); });
  ForEachGroup(
      scopes, true,
      [&](const Scope& scope, const Cohort& cohort, const Variant& variant, const Cells& cells) {
        table.Add({{{scope}, variant}, cohort, cells});
      });
  return table.Finish();
}

}  // namespace kvr::report
