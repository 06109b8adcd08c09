#include "../budget.h"
#include "table_of.h"
#include "tables.h"

namespace kvr::report {
namespace {

// How many turns one arm starts in time, from the first on.
struct ConversationsRow : VariantRow {
  const std::string& window;
  double budget_ms;
  std::int64_t turns, tried;
  std::int64_t starts, in_time;  // of turns, over all conversations and repetitions
  bool known = true;             // no turn that counts has too few cells for a percentile
};

using TimesByTurn = std::map<std::int64_t, Samples>;

template <typename CellsOfPrompt>
TimesByTurn TimesOf(const Scope& scope, const std::string& window, CellsOfPrompt cells_of) {
  TimesByTurn times;
  for (const PromptCells& prompt : scope.prompts) {
    if (prompt.workload != window) continue;
    for (const Cell* cell : cells_of(prompt)) {
      if (cell->turn) times[*cell->turn].push_back(cell->ttft_ms);
    }
  }
  return times;
}

ConversationsRow MakeConversationsRow(const Scope& scope, const Variant& variant,
                                      const std::string& window, const TimesByTurn& times,
                                      double budget_ms) {
  ConversationsRow row{{{scope}, variant}, window, budget_ms, 0, std::ssize(times), 0, 0};
  bool going = true;
  for (const auto& [turn, samples] : times) {
    const Number p95 = Percentile(samples, 0.95);
    row.known = row.known && (p95 || !going);
    going = going && p95 && *p95 <= budget_ms;
    if (going) row.turns = turn;
    for (const double ms : samples) row.in_time += ms <= budget_ms ? 1 : 0;
    row.starts += std::ssize(samples);
  }
  return row;
}

}  // namespace

Table LengthTable(const std::vector<Scope>& scopes) {
  TableOf<ConversationsRow> table(
      "The longest conversation within a budget",
      "Of workload conversation, by window rule. turns: how many from the first on start within "
      "the budget at the 95th percentile over conversations and repetitions; \">=\" where all that "
      "were tried do; nothing where a turn has fewer than 21 cells. in time: of all turns' cells.");
  table.Left("window", [](const ConversationsRow& row) { return Text(row.window); })
      .Right("budget_ms", "budget ms",
             [](const ConversationsRow& row) { return Formatted("%.0f", row.budget_ms); })
      .HowReused()
      .Right("turns",
             [](const ConversationsRow& row) {
               if (!row.known) return Value{};
               Value value = Count(row.turns);
               if (row.turns == row.tried) value.text = ">= " + value.text;
               return value;
             })
      .Right("in_time_share", "in time",
             [](const ConversationsRow& row) { return Rate(row.in_time, row.starts); });
  static const Variant kBaseline{.policy = "baseline"};
  for (const Scope& scope : scopes) {
    for (const std::string& window : WindowsOf(scope)) {
      for (const double budget : TtftBudgets(*scope.run)) {
        const auto add = [&](const Variant& variant, auto cells_of) {
          const TimesByTurn times = TimesOf(scope, window, cells_of);
          if (!times.empty())
            table.Add(MakeConversationsRow(scope, variant, window, times, budget));
        };
        add(kBaseline, [](const PromptCells& p) -> const Cells& { return p.baseline; });
        for (const Variant& variant : scope.variants) {
          add(variant,
              [&](const PromptCells& p) -> const Cells& { return RecycledBy(p, variant); });
        }
      }
    }
  }
  return table.Finish();
}

}  // namespace kvr::report
