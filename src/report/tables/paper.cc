#include "table_of.h"
#include "tables.h"

namespace kvr::report {
namespace {

struct PaperRow : VariantRow {
  const PromptCells& prompt;
  const Cells& cells;
  std::optional<Totals> totals;
};

PaperRow MakePaperRow(const Scope& scope, const Variant& variant, const PromptCells& prompt) {
  const Cells& cells = RecycledBy(prompt, variant);
  PaperRow row{{{scope}, variant}, prompt, cells, TotalsOf(prompt.baseline, cells)};
  const Number base = BaselineTtft(prompt), own = MedianOf(cells, &Cell::ttft_ms);
  if (!row.totals && base && own) row.totals = Totals{1, *base, *own};
  return row;
}

Value Seconds(Number ms) { return Formatted("%.3f", ms ? Number(*ms / 1000) : Number()); }

Value SavedPercent(const PaperRow& row) {
  if (!row.totals) return {};
  const Number saved = Quotient(Number(row.totals->baseline_ms - row.totals->recycled_ms),
                                Number(row.totals->baseline_ms));
  return Formatted("%.1f", saved ? Number(*saved * 100) : Number());
}

}  // namespace

Table PaperTable(const std::vector<Scope>& scopes) {
  TableOf<PaperRow> table(
      "The paper's table: each prompt",
      "Policy embedding, match whole, the nearest entry alone; where that did not run, the nearest "
      "to it that did (policy, match and cand. say which). baseline s, recycled s: seconds until "
      "so many new tokens were there, the last that all decoded cells of both arms have; for 1, "
      "to the first token, where fewer than three cells of an arm were decoded. Medians over "
      "repetitions. speed-up %: share of the baseline's time that is saved. depth: tokens reused. "
      "prompt sim.: cosine of the prompt and the entry used, or on a miss the nearest. output "
      "sim.: mean cosine of the two texts.");
  table.Left("prompt_id", "prompt", [](const PaperRow& row) { return Text(row.prompt.id); })
      .Right(
          "new_tokens",
          [](const PaperRow& row) { return row.totals ? Count(row.totals->new_tokens) : Value{}; })
      .Right("baseline_s",
             [](const PaperRow& row) {
               return row.totals ? Seconds(row.totals->baseline_ms) : Value{};
             })
      .Right("recycled_s",
             [](const PaperRow& row) {
               return row.totals ? Seconds(row.totals->recycled_ms) : Value{};
             })
      .Right("speedup_percent", "speed-up %", SavedPercent)
      .Right("reuse_depth", "depth",
             [](const PaperRow& row) { return Formatted("%.0f", MedianOf(row.cells, Depth)); })
      .Right("prompt_similarity", "prompt sim.",
             [](const PaperRow& row) {
               return Formatted("%.3f", MedianOf(row.cells, &Cell::similarity));
             })
      .Right("output_similarity", "output sim.",
             [](const PaperRow& row) { return Semantic(row.cells, &Fidelity::cosine); })
      .Policy()
      .Match()
      .Candidates();
  for (const Scope& scope : scopes) {
    const Variant* const variant = PapersVariant(scope);
    if (variant == nullptr) continue;
    for (const PromptCells& prompt : scope.prompts) {
      if (!RecycledBy(prompt, *variant).empty()) table.Add(MakePaperRow(scope, *variant, prompt));
    }
  }
  return table.Finish();
}

}  // namespace kvr::report
