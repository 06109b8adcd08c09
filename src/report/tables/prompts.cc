#include "table_of.h"
#include "tables.h"

namespace kvr::report {
namespace {

struct PromptsRow : VariantRow {
  const PromptCells& prompt;
  const Cells& cells;
  std::optional<Totals> totals = TotalsOf(prompt.baseline, cells);
};

constexpr const char* kPromptsNote =
    "Times in ms, medians over repetitions; TTFT of the recycled arm includes embedding, "
    "lookup and restore. base TTFT: the run's one baseline; which: its schedule, chosen before "
    "the run (runs of schema 1: block). Totals: time until so many new tokens were there, the "
    "last that all decoded cells of both arms have; of three decoded cells or more in each arm. "
    "sim.: cosine of the prompt and the entry used, or the nearest. out. sim.: mean cosine of "
    "the output text and the baseline's. exact: all logits and tokens equal the baseline's bit "
    "for bit in every repetition compared to its end; at first: in every one compared at the "
    "first token only.";

Value AllExact(const Cells& compared) {
  if (compared.empty()) return {};
  const bool all = CountIf(compared, IsExact) == std::ssize(compared);
  return {all ? "yes" : "no", all};
}

}  // namespace

Table PromptTable(const std::vector<Scope>& scopes) {
  TableOf<PromptsRow> table("Each prompt", kPromptsNote);
  table.Left("prompt_id", "prompt", [](const PromptsRow& row) { return Text(row.prompt.id); })
      .Left("workload", [](const PromptsRow& row) { return Text(row.prompt.workload); })
      .HowReused()
      .Right("prompt_tokens", "tokens",
             [](const PromptsRow& row) { return Count(row.prompt.tokens); })
      .Right("reuse_depth", "depth",
             [](const PromptsRow& row) { return Formatted("%.0f", MedianOf(row.cells, Depth)); })
      .Right("similarity", "sim.",
             [](const PromptsRow& row) {
               return Formatted("%.3f", MedianOf(row.cells, &Cell::similarity));
             })
      .Right("baseline_ttft_ms", "base TTFT",
             [](const PromptsRow& row) { return Ms(BaselineTtft(row.prompt)); })
      .Left("baseline", "which",
            [](const PromptsRow& row) {
              return row.prompt.baseline.empty() ? Value{} : Text(row.scope.Schedule());
            })
      .Right("recycled_ttft_ms", "rec. TTFT",
             [](const PromptsRow& row) { return Ms(MedianOf(row.cells, &Cell::ttft_ms)); })
      .Right("ttft_speedup", "speedup",
             [](const PromptsRow& row) { return Times(TtftSpeedup(row.prompt, row.cells)); })
      .Right("new_tokens", "new",
             [](const PromptsRow& row) {
               return row.totals ? Count(row.totals->new_tokens) : Value{};
             })
      .Right(
          "baseline_total_ms", "base total",
          [](const PromptsRow& row) { return row.totals ? Ms(row.totals->baseline_ms) : Value{}; })
      .Right(
          "recycled_total_ms", "rec. total",
          [](const PromptsRow& row) { return row.totals ? Ms(row.totals->recycled_ms) : Value{}; })
      .Right(
          "total_speedup", "speedup",
          [](const PromptsRow& row) { return row.totals ? Times(row.totals->speedup()) : Value{}; })
      .Right("output_cosine", "out. sim.",
             [](const PromptsRow& row) { return Semantic(row.cells, &Fidelity::cosine); })
      .Left("exact_to_the_end", "exact",
            [](const PromptsRow& row) { return AllExact(Only(row.cells, IsComparedToTheEnd)); })
      .Left("exact_at_first_token", "at first",
            [](const PromptsRow& row) { return AllExact(Only(row.cells, IsComparedAtFirst)); })
      .Left("limited_by",
            [](const PromptsRow& row) { return Text(row.cells.front()->limited_by); });
  for (const Scope& scope : scopes) {
    for (const PromptCells& prompt : scope.prompts) {
      for (const Variant& variant : scope.variants) {
        const Cells& cells = RecycledBy(prompt, variant);
        if (!cells.empty()) table.Add({{{scope}, variant}, prompt, cells});
      }
    }
  }
  return table.Finish();
}

}  // namespace kvr::report
