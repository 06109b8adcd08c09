#include "fill_sum.h"
#include "table_of.h"
#include "tables.h"

namespace kvr::report {
namespace {

struct BreakEvenRow : VariantRow {
  std::int64_t hits = 0;
  Number saved_per_hit, hits_to_pay, per_entry;
};

BreakEvenRow MakeBreakEvenRow(const Scope& scope, const Variant& variant) {
  BreakEvenRow row{{{scope}, variant}};
  Samples saved;
  for (const PromptCells& prompt : scope.prompts) {
    const Number best = BaselineTtft(prompt);
    for (const Cell* cell : Only(RecycledBy(prompt, variant), IsHit)) {
      ++row.hits;
      if (best) saved.push_back(*best - cell->ttft_ms);
    }
  }
  row.saved_per_hit = Mean(saved);
  const FillSum sum = FillOf(scope, variant.codec);
  if (sum.entries > 0) row.hits_to_pay = Quotient(Number(sum.save_ms), row.saved_per_hit);
  row.per_entry = Quotient(row.hits_to_pay, Number(static_cast<double>(sum.entries)));
  return row;
}

}  // namespace

Table BreakEvenTable(const std::vector<Scope>& scopes) {
  TableOf<BreakEvenRow> table(
      "When filling has paid for itself",
      "saved: mean over hits of the prompt's median baseline TTFT less the cell's TTFT. "
      "break-even: total save time over that, and the same per entry. None where hits save "
      "nothing. The entries' prefill is not counted: it answered them.");
  table.HowReused()
      .Right("hits", [](const BreakEvenRow& row) { return Count(row.hits); })
      .Right("saved_ms_mean", "saved ms/hit",
             [](const BreakEvenRow& row) { return Ms(row.saved_per_hit); })
      .Right("break_even_hits", "break-even hits",
             [](const BreakEvenRow& row) { return Formatted("%.2f", row.hits_to_pay); })
      .Right("break_even_hits_per_entry", "per entry",
             [](const BreakEvenRow& row) { return Formatted("%.3f", row.per_entry); });
  ForEachVariant(scopes, [&](const Scope& scope, const Variant& variant) {
    table.Add(MakeBreakEvenRow(scope, variant));
  });
  return table.Finish();
}

}  // namespace kvr::report
