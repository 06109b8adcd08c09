#include "table_of.h"
#include "tables.h"

namespace kvr::report {
namespace {

struct BaselinesRow : ScopeRow {
  const char* what;
  std::int64_t prompts = 0;  // with cells
  Cells cells, compared;
  std::optional<Estimate> ttft, total;  // the baseline's over theirs
  std::optional<Estimate> slower;       // theirs over the baseline's, to the first token
};

// `cells_of` gives a prompt's cells that do the baseline's work again.
template <typename CellsOf>
BaselinesRow MakeBaselinesRow(const Scope& scope, const char* what, CellsOf cells_of) {
  BaselinesRow row{{scope}, what};
  for (const PromptCells& prompt : scope.prompts) {
    const Cells& own = cells_of(prompt);
    row.prompts += own.empty() ? 0 : 1;
    row.cells.insert(row.cells.end(), own.begin(), own.end());
  }
  row.compared = Only(row.cells, IsCompared);
  const std::vector<const PromptCells*> all = Pointers(scope.prompts);
  row.ttft = EstimateOver(all, [&](const PromptCells& p) { return TtftSpeedup(p, cells_of(p)); });
  row.total = EstimateOver(all, [&](const PromptCells& p) {
    const std::optional<Totals> totals = TotalsOf(p.baseline, cells_of(p));
    return totals ? totals->speedup() : Number();
  });
  row.slower = EstimateOver(all, [&](const PromptCells& p) {
    return Quotient(MedianOf(cells_of(p), &Cell::ttft_ms), BaselineTtft(p));
  });
  return row;
}

}  // namespace

Table BaselineTable(const std::vector<Scope>& scopes) {
  TableOf<BaselinesRow> table(
      "Control: the same work twice",
      "null variant: the baseline's work sent through the recycled arm; second baseline: the "
      "baseline once more; first baseline: itself, for its exactness. All in every repetition, on "
      "all prompts. Exactness and logits: against "
      "the baseline that ran before the prompt's cells. Ratios: the baseline's time over theirs, "
      "by the estimator of the speed-ups with its 95 % interval; a speed-up inside it is none. "
      "TTFT and what follows: theirs over the baseline's, less 1, with the 90 % interval, the "
      "p-value adjusted over the rows, the verdict within the margin and what it could have seen, "
      "as in "
      "no_overlap.");
  table.Left("what", [](const BaselinesRow& row) { return Text(row.what); })
      .Right("prompts", [](const BaselinesRow& row) { return Count(row.prompts); })
      .Right("cells", [](const BaselinesRow& row) { return Count(std::ssize(row.cells)); })
      .Right("compared", [](const BaselinesRow& row) { return Count(std::ssize(row.compared)); })
      .Right("exact_share", "exact",
             [](const BaselinesRow& row) { return RateOf(row.compared, IsExact); })
      .Right("max_abs_logit_diff", "max abs diff",
             [](const BaselinesRow& row) {
               return Small(Greatest(row.compared, &Fidelity::max_abs_logit_diff));
             })
      .Interval("ttft_ratio", "TTFT ratio", &BaselinesRow::ttft)
      .Interval("total_ratio", "total ratio", &BaselinesRow::total)
      .Difference("ttft_difference", "ttft", "TTFT", &BaselinesRow::slower);
  for (const Scope& scope : scopes) {
    for (const BaselinesRow& row :
         {MakeBaselinesRow(
              scope, "null variant",
              [](const PromptCells& p) -> const Cells& { return RecycledBy(p, NullVariant()); }),
          MakeBaselinesRow(scope, "second baseline",
                           [](const PromptCells& p) -> const Cells& { return p.second; }),
          MakeBaselinesRow(scope, "first baseline",
                           [](const PromptCells& p) -> const Cells& { return p.baseline; })}) {
      if (!row.cells.empty()) table.Add(row);
    }
  }
  return table.Finish();
}

}  // namespace kvr::report
