// What a cache would have held of a whole trace, by arithmetic alone: no cell is looked at.
#include <tuple>

#include "table_of.h"
#include "tables.h"

namespace kvr::report {
namespace {

struct ReplayRow : ScopeRow {
  TraceRow sum;                            // of one rule at one budget, over one bin or all
  std::optional<std::int64_t> most_saved;  // hit_tokens of the same bins where nothing is dropped
};

// One rule at one budget.
auto Series(const TraceRow& row) {
  return std::tie(row.trace, row.codec, row.rule, row.budget_blocks);
}

// Rows of the scope's model, or of none.
bool IsOf(const TraceRow& row, const Scope& scope) {
  return row.model.value_or(scope.model) == scope.model &&
         row.precision.value_or(scope.precision) == scope.precision;
}

void AddTo(const TraceRow& bin, TraceRow* sum) {
  sum->end_s = bin.end_s;
  for (const auto count : {&TraceRow::requests, &TraceRow::hit_requests, &TraceRow::input_tokens,
                           &TraceRow::hit_tokens, &TraceRow::input_blocks, &TraceRow::hit_blocks,
                           &TraceRow::evicted_blocks}) {
    sum->*count += bin.*count;
  }
  sum->held_blocks = bin.held_blocks;
}

// The scope's rows, as they are or summed over their bins, in the run's order.
std::vector<ReplayRow> RowsOf(const Scope& scope, bool summed) {
  std::vector<ReplayRow> rows;
  for (const TraceRow& row : scope.run->trace) {
    if (!IsOf(row, scope)) continue;
    if (summed && !rows.empty() && Series(rows.back().sum) == Series(row)) {
      AddTo(row, &rows.back().sum);
    } else {
      rows.push_back({{scope}, row, {}});
    }
  }
  for (ReplayRow& row : rows) {
    for (const ReplayRow& other : rows) {
      if (!other.sum.budget_blocks && other.sum.trace == row.sum.trace &&
          other.sum.codec == row.sum.codec && other.sum.bin == row.sum.bin) {
        row.most_saved = other.sum.hit_tokens;
      }
    }
  }
  return rows;
}

Value Bytes(const std::optional<std::uint64_t>& bytes) {
  if (!bytes) return {};
  const auto number = static_cast<double>(*bytes);
  return {Print(number < 1e9 ? "%.1f MB" : "%.1f GB", number / (number < 1e9 ? 1e6 : 1e9)), *bytes};
}

// What a row is about, and what both tables say of it.
TableOf<ReplayRow>& AddBudget(TableOf<ReplayRow>& table) {
  return table.Left("codec", [](const ReplayRow& row) { return Text(row.sum.codec); })
      .Left("rule", [](const ReplayRow& row) { return Text(row.sum.rule); })
      .Right("budget_blocks", "blocks",
             [](const ReplayRow& row) {
               return row.sum.budget_blocks
                          ? Count(static_cast<std::int64_t>(*row.sum.budget_blocks))
                          : Value{};
             })
      .Right("budget_bytes", "budget",
             [](const ReplayRow& row) { return Bytes(row.sum.budget_bytes); });
}

TableOf<ReplayRow>& AddHits(TableOf<ReplayRow>& table) {
  return table.Right("requests", [](const ReplayRow& row) { return Count(row.sum.requests); })
      .Right("hit_request_share", "with a hit",
             [](const ReplayRow& row) {
               return Percent(Quotient(row.sum.hit_requests, row.sum.requests));
             })
      .Right("input_tokens", [](const ReplayRow& row) { return Count(row.sum.input_tokens); })
      .Right("saved_tokens", "saved",
             [](const ReplayRow& row) { return Count(row.sum.hit_tokens); })
      .Right("hit_rate", "hit rate",
             [](const ReplayRow& row) {
               return Percent(Quotient(row.sum.hit_tokens, row.sum.input_tokens));
             })
      .Right("share_of_infinite", "of infinite",
             [](const ReplayRow& row) {
               return row.most_saved ? Percent(Quotient(row.sum.hit_tokens, *row.most_saved))
                                     : Value{};
             })
      .Right("evicted_blocks", "evicted",
             [](const ReplayRow& row) { return Count(row.sum.evicted_blocks); });
}

}  // namespace

Table TraceTable(const std::vector<Scope>& scopes) {
  TableOf<ReplayRow> table(
      "A trace's cache, by arithmetic",
      "Over all requests of the trace, at its own scale. saved: prompt tokens that a cache of so "
      "many blocks would have restored, at most a prompt's less one; hit rate: of all prompt "
      "tokens; with a hit: share of requests. lru drops the block used longest ago; belady, which "
      "knows the future, the one used furthest in it: no rule hits more blocks; infinite drops "
      "nothing. blocks, evicted: of the trace's hash ids.");
  table.Left("trace", [](const ReplayRow& row) { return Text(row.sum.trace); });
  AddHits(AddBudget(table));
  for (const Scope& scope : scopes) {
    for (const ReplayRow& row : RowsOf(scope, /*summed=*/true)) table.Add(row);
  }
  return table.Finish();
}

Table TraceBinsTable(const std::vector<Scope>& scopes) {
  TableOf<ReplayRow> table(
      "A trace's cache over time, by arithmetic",
      "As the table before, of the requests that came from so many seconds after "
      "the first one on, until the next row. held: blocks after the last of them.");
  AddBudget(table).Right("start_s", "from s",
                         [](const ReplayRow& row) { return Formatted("%.0f", row.sum.start_s); });
  AddHits(table).Right("held_blocks", "held",
                       [](const ReplayRow& row) { return Count(row.sum.held_blocks); });
  for (const Scope& scope : scopes) {
    for (const ReplayRow& row : RowsOf(scope, /*summed=*/false)) table.Add(row);
  }
  return table.Finish();
}

}  // namespace kvr::report
