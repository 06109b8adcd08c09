#include "../budget.h"
#include "table_of.h"
#include "tables.h"

namespace kvr::report {
namespace {

struct UsableContextRow : VariantRow {
  double budget_ms;
  std::optional<UsableContext> usable, saved, baseline;
  std::int64_t longest;  // history tried
};

// What storing the turn that an entry ends with took, by entry and codec.
using SavingMs = std::map<std::pair<std::string, std::string>, double>;

SavingMs SavingOf(const Scope& scope) {
  SavingMs saving;
  for (const Fill& fill : scope.run->fill) {
    if (fill.model != scope.model || fill.precision != scope.precision) continue;
    saving[{fill.entry, CodecOf(fill)}] = fill.prefill_ms + fill.save_ms;
  }
  return saving;
}

// Of the arm whose cells `cells_of` gives for a prompt; with what saving took, where `saving` is
// given and knows it.
template <typename CellsOfPrompt>
TimesByLength TimesOf(const Scope& scope, CellsOfPrompt cells_of, const SavingMs* saving,
                      const std::string& codec) {
  TimesByLength times;
  for (const PromptCells& prompt : scope.prompts) {
    for (const Cell* cell : cells_of(prompt)) {
      if (!cell->history_tokens) continue;
      double ms = cell->ttft_ms;
      if (saving != nullptr) {
        const auto found = saving->find({cell->entry.value_or(prompt.id), codec});
        if (found == saving->end()) continue;
        ms += found->second;
      }
      times[*cell->history_tokens][prompt.cluster].push_back(ms);
    }
  }
  return times;
}

Value Tokens(const std::optional<Reach>& reach, const UsableContextRow& row) {
  if (!reach) return {};
  if (reach->bound == Reach::Bound::kShortest) return {"none", 0};
  Value value = Formatted("%.0f", reach->tokens);
  if (reach->bound == Reach::Bound::kLongest) {
    value.text = ">= " + std::to_string(row.longest);
  }
  return value;
}

// What keeps the number from being larger or, under "none", known.
Value BoundOf(const UsableContextRow& row) {
  if (!row.usable || row.usable->reach.bound == Reach::Bound::kNone) return {};
  if (row.usable->reach.bound == Reach::Bound::kShortest) return Text("shortest tried");
  const ModelInfo* const info = row.scope.info;
  const bool full =
      info != nullptr && info->context_tokens &&
      static_cast<double>(row.longest) >= 0.97 * static_cast<double>(*info->context_tokens);
  return Text(full ? "the model's context" : "longest tried");
}

Value Gain(const UsableContextRow& row) {
  if (!row.usable || !row.baseline) return {};
  if (row.usable->reach.bound != Reach::Bound::kNone ||
      row.baseline->reach.bound != Reach::Bound::kNone) {
    return {};
  }
  return Times(Quotient(Number(row.usable->reach.tokens), Number(row.baseline->reach.tokens)));
}

auto End(std::optional<Reach> UsableContext::*which) {
  return [which](const UsableContextRow& row) {
    return row.usable ? Tokens((*row.usable).*which, row) : Value{};
  };
}

void AddRows(const Scope& scope, TableOf<UsableContextRow>* table) {
  const SavingMs saving = SavingOf(scope);
  const TimesByLength baseline = TimesOf(
      scope, [](const PromptCells& p) -> const Cells& { return p.baseline; }, nullptr, "");
  if (baseline.empty()) return;
  const std::int64_t longest = baseline.rbegin()->first;
  for (const double budget : TtftBudgets(*scope.run)) {
    const auto of_baseline = UsableWithin(baseline, budget);
    static const Variant kBaseline{.policy = "baseline"};
    table->Add({{{scope}, kBaseline}, budget, of_baseline, {}, {}, longest});
    for (const Variant& variant : scope.variants) {
      const auto cells = [&](const PromptCells& p) -> const Cells& {
        return RecycledBy(p, variant);
      };
      table->Add({{{scope}, variant},
                  budget,
                  UsableWithin(TimesOf(scope, cells, nullptr, ""), budget),
                  UsableWithin(TimesOf(scope, cells, &saving, variant.codec), budget),
                  of_baseline,
                  longest});
    }
  }
}

}  // namespace

Table UsableTable(const std::vector<Scope>& scopes) {
  TableOf<UsableContextRow> table(
      "Usable context: the longest history whose next turn starts within a budget",
      "Of workload context. tokens: of history, at which the 95th percentile of the time to the "
      "first token reaches the budget, by linear interpolation between the lengths tried, the "
      "percentiles made never to fall with length; low and high: an interval over "
      "stretches of text that covers the truth in 90 to 95 of 100 runs. Nothing is extrapolated: "
      "\"none\" where the shortest "
      "history tried takes longer, \">=\" where even the longest does not, and bound says what "
      "that was. with saving: the same when each turn also waits for the storing of the turn "
      "before. gain: tokens over the baseline's, where neither is bound.");
  table
      .Right("budget_ms", "budget ms",
             [](const UsableContextRow& row) { return Formatted("%.0f", row.budget_ms); })
      .HowReused()
      .Right("tokens",
             [](const UsableContextRow& row) {
               return row.usable ? Tokens(row.usable->reach, row) : Value{};
             })
      .Right("tokens_low", "low", End(&UsableContext::low))
      .Right("tokens_high", "high", End(&UsableContext::high))
      .Left("bound", BoundOf)
      .Right("tokens_with_saving", "with saving",
             [](const UsableContextRow& row) {
               return row.saved ? Tokens(row.saved->reach, row) : Value{};
             })
      .Right("gain", Gain);
  for (const Scope& scope : scopes) {
    if (scope.run->config.value("workload", Json()) == "context") AddRows(scope, &table);
  }
  return table.Finish();
}

}  // namespace kvr::report
