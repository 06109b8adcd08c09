#include <array>

#include "arms.h"
#include "table_of.h"
#include "tables.h"

namespace kvr::report {
namespace {

// A time that a cell has of its own, in the order in which a cell takes them; sums last.
struct Phase {
  const char* name;
  Number (*of)(const Cell& cell);
};
constexpr auto kPhases = std::to_array<Phase>({
    {"embed", [](const Cell& cell) { return cell.embed_ms; }},
    {"lookup", [](const Cell& cell) { return cell.lookup_ms; }},
    {"restore", [](const Cell& cell) { return cell.restore_ms; }},
    {"prefill", [](const Cell& cell) { return Number(cell.prefill_ms); }},
    {"decode", [](const Cell& cell) { return cell.decode_ms; }},
    {"decode/token", [](const Cell& cell) { return cell.DecodeMsPerToken(); }},
    {"TTFT", [](const Cell& cell) { return Number(cell.ttft_ms); }},
    {"total", [](const Cell& cell) { return cell.total_ms; }},
});

struct PercentilesRow : VariantRow {
  const Cohort& cohort;
  const char* phase;
  Samples sample;
};

}  // namespace

Table QuantileTable(const std::vector<Scope>& scopes) {
  TableOf<PercentilesRow> table(
      "Percentiles of every phase",
      "Over cells, type 7, in ms; cells: those that have the phase. A percentile needs a cell of "
      "its own beside the largest: p90 11 cells, p95 21, p99 101; with fewer it is left out, as it "
      "would tell of the largest alone. Prompts of unlike length are in one row: percentiles tell "
      "of the spread over these cells, not of a prompt's own. decode/token: decoding over new "
      "tokens less one. total: to the last new token, whatever their number.");
  table.Left("workload", [](const PercentilesRow& row) { return Text(row.cohort.label); })
      .HowReused()
      .Left("phase", [](const PercentilesRow& row) { return Text(row.phase); })
      .Right("cells", [](const PercentilesRow& row) { return Count(std::ssize(row.sample)); })
      .Right("p50_ms", "p50", [](const PercentilesRow& row) { return Ms(Median(row.sample)); })
      .Right("p90_ms", "p90",
             [](const PercentilesRow& row) { return Ms(Percentile(row.sample, 0.90)); })
      .Right("p95_ms", "p95",
             [](const PercentilesRow& row) { return Ms(Percentile(row.sample, 0.95)); })
      .Right("p99_ms", "p99",
             [](const PercentilesRow& row) { return Ms(Percentile(row.sample, 0.99)); })
      .Right("max_ms", "greatest",
             [](const PercentilesRow& row) { return Ms(Quantile(row.sample, 1)); });
  for (const Scope& scope : scopes) {
    for (const Cohort& cohort : CohortsOf(scope)) {
      ForEachArm(scope, cohort.prompts, [&](const Variant& arm, const Cells& cells) {
        for (const Phase& phase : kPhases) {
          Samples sample = Collect(cells, phase.of);
          if (!sample.empty()) table.Add({{{scope}, arm}, cohort, phase.name, std::move(sample)});
        }
      });
    }
  }
  return table.Finish();
}

}  // namespace kvr::report
