#include "table_of.h"
#include "tables.h"

namespace kvr::report {
namespace {

// One turn of all conversations under one window rule.
struct TurnsRow : VariantRow {
  const std::string& window;
  std::int64_t turn, conversations;
  Samples tokens, depth;
  Number baseline_ms, recycled_ms;          // medians over cells
  double baseline_sum_ms, recycled_sum_ms;  // of this and all turns before
};

std::vector<const PromptCells*> AtTurn(const Scope& scope, const std::string& window,
                                       std::int64_t turn) {
  std::vector<const PromptCells*> prompts;
  for (const PromptCells& prompt : scope.prompts) {
    if (prompt.workload == window && !prompt.baseline.empty() &&
        prompt.baseline.front()->turn == turn) {
      prompts.push_back(&prompt);
    }
  }
  return prompts;
}

void AddRows(const Scope& scope, const std::string& window, const Variant& variant,
             TableOf<TurnsRow>* table) {
  double baseline_sum = 0, recycled_sum = 0;
  for (std::int64_t turn = 1;; ++turn) {
    const std::vector<const PromptCells*> prompts = AtTurn(scope, window, turn);
    if (prompts.empty()) return;
    Cells baseline;
    Samples tokens;
    for (const PromptCells* prompt : prompts) {
      baseline.insert(baseline.end(), prompt->baseline.begin(), prompt->baseline.end());
      tokens.push_back(static_cast<double>(prompt->tokens));
    }
    const Cells recycled = AllRecycledBy(prompts, variant);
    const Number base = MedianOf(baseline, &Cell::ttft_ms),
                 own = MedianOf(recycled, &Cell::ttft_ms);
    baseline_sum += base.value_or(0);
    recycled_sum += own.value_or(0);
    table->Add({{{scope}, variant},
                window,
                turn,
                std::ssize(prompts),
                tokens,
                Collect(recycled, Depth),
                base,
                own,
                baseline_sum,
                recycled_sum});
  }
}

}  // namespace

Table TurnTable(const std::vector<Scope>& scopes) {
  TableOf<TurnsRow> table(
      "Conversations, turn by turn",
      "Of workload conversation, by window rule: \"slide\" drops the oldest turns one by one past "
      "the context's end, \"step\" many at once. tokens, depth: medians over conversations of the "
      "prompt and of what was reused. TTFT in ms, medians over cells. sum: of these medians up to "
      "the turn, what a conversation has waited so far.");
  table.Left("window", [](const TurnsRow& row) { return Text(row.window); })
      .HowReused()
      .Right("turn", [](const TurnsRow& row) { return Count(row.turn); })
      .Right("conversations", "conv.", [](const TurnsRow& row) { return Count(row.conversations); })
      .Right("prompt_tokens", "tokens",
             [](const TurnsRow& row) { return Formatted("%.0f", Median(row.tokens)); })
      .Right("reuse_depth", "depth",
             [](const TurnsRow& row) { return Formatted("%.0f", Median(row.depth)); })
      .Right("baseline_ttft_ms", "baseline",
             [](const TurnsRow& row) { return Ms(row.baseline_ms); })
      .Right("recycled_ttft_ms", "recycled",
             [](const TurnsRow& row) { return Ms(row.recycled_ms); })
      .Right("speedup",
             [](const TurnsRow& row) { return Times(Quotient(row.baseline_ms, row.recycled_ms)); })
      .Right("baseline_sum_ms", "sum", [](const TurnsRow& row) { return Ms(row.baseline_sum_ms); })
      .Right("recycled_sum_ms", "sum", [](const TurnsRow& row) { return Ms(row.recycled_sum_ms); });
  for (const Scope& scope : scopes) {
    for (const std::string& window : WindowsOf(scope)) {
      for (const Variant& variant : scope.variants) AddRows(scope, window, variant, &table);
    }
  }
  return table.Finish();
}

}  // namespace kvr::report
