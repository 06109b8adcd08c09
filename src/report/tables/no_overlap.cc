#include "table_of.h"
#include "tables.h"

namespace kvr::report {

Table ControlTable(const std::vector<Scope>& scopes) {
  struct Row : VariantRow {
    std::int64_t prompts;
    const Cells& cells;
    std::optional<Estimate> prefill, decode;
  };
  TableOf<Row> table(
      "Control: prompts without any overlap",
      "Workloads that the configuration names as control groups and that had no hit: recycling "
      "has nothing to give there and must take nothing but embedding and lookup. prefill, "
      "decode/tok: the recycled time over the baseline's, less 1, by the estimator of the "
      "speed-ups; low and high: its 90 % interval. verdict, at a level of 5 %: equivalent where "
      "that interval lies within the config's margin, else 3 %, on both sides; else differs where "
      "p (Holm), of the test of "
      "difference and adjusted over the table's rows, is at most 0.05; else undecided. could see: "
      "the difference that would have been found in 80 of 100 such "
      "runs; power at 5 %: how often a difference of 5 % would have been. Policy off is the null "
      "variant. embed+lookup in ms and as share of TTFT, medians over cells. same tokens: of the "
      "compared cells.");
  table.HowReused()
      .Right("prompts", [](const Row& row) { return Count(row.prompts); })
      .Right("cells", [](const Row& row) { return Count(std::ssize(row.cells)); })
      .Right("hits", [](const Row& row) { return Count(CountIf(row.cells, IsHit)); })
      .Right("same_tokens_share", "same tokens",
             [](const Row& row) {
               return Rate(CountIf(row.cells, HasSameTokens), CountIf(row.cells, IsCompared));
             })
      .Difference("prefill_difference", "prefill", "prefill", &Row::prefill)
      .Difference("decode_difference", "decode", "decode/tok", &Row::decode)
      .Right("overhead_ms", "embed+lookup",
             [](const Row& row) { return Ms(MedianOf(row.cells, Overhead)); })
      .Right("overhead_share", "of TTFT",
             [](const Row& row) { return Percent(MedianOf(row.cells, OverheadShare)); });
  for (const Scope& scope : scopes) {
    const std::vector<const PromptCells*> prompts = Controls(scope);
    for (const Variant& variant : scope.NullAndVariants()) {
      const Cells cells = AllRecycledBy(prompts, variant);
      if (cells.empty()) continue;
      const auto with_cells = [&](const PromptCells* p) {
        return !RecycledBy(*p, variant).empty();
      };
      table.Add({{{scope}, variant},
                 std::count_if(prompts.begin(), prompts.end(), with_cells),
                 cells,
                 PrefillEstimate(prompts, variant),
                 DecodeEstimate(prompts, variant)});
    }
  }
  return table.Finish();
}

}  // namespace kvr::report
