#include "arms.h"
#include "table_of.h"
#include "tables.h"

namespace kvr::report {
namespace {

struct PhasesRow : VariantRow {
  const Cohort& cohort;
  const Cells& cells;
};

// Median and 95th percentile of what `field`, of a cell, gives.
template <typename Field>
void PhaseColumn(TableOf<PhasesRow>* table, const std::string& key, const char* head, Field field) {
  table->Right((key + "_median_ms").c_str(), head,
               [field](const PhasesRow& row) { return Ms(MedianOf(row.cells, field)); });
  table->Right((key + "_p95_ms").c_str(), "p95", [field](const PhasesRow& row) {
    return Ms(Percentile(Collect(row.cells, field), 0.95));
  });
}

}  // namespace

Table PhaseTable(const std::vector<Scope>& scopes) {
  TableOf<PhasesRow> table(
      "Where the time goes",
      "Median and 95th percentile over cells (type 7; none of fewer than 21 cells, of which it "
      "would lie between the two largest), in ms; others are in percentiles. Rows \"baseline "
      "block\" and \"baseline free\" are the baselines with the "
      "block schedule and with the best chunking, policy off is the null variant. decode/tok: "
      "decoding over new tokens less one.");
  table.Left("workload", [](const PhasesRow& row) { return Text(row.cohort.label); })
      .Policy()
      .Match()
      .Candidates()
      .Codec()
      .PageCache()
      .Right("cells", [](const PhasesRow& row) { return Count(std::ssize(row.cells)); });
  PhaseColumn(&table, "embed", "embed", &Cell::embed_ms);
  PhaseColumn(&table, "lookup", "lookup", &Cell::lookup_ms);
  PhaseColumn(&table, "restore", "restore", &Cell::restore_ms);
  PhaseColumn(&table, "prefill", "prefill", &Cell::prefill_ms);
  PhaseColumn(&table, "ttft", "TTFT", &Cell::ttft_ms);
  PhaseColumn(&table, "decode_per_token", "decode/tok", &Cell::DecodeMsPerToken);
  for (const Scope& scope : scopes) {
    for (const Cohort& cohort : CohortsOf(scope)) {
      ForEachArm(scope, cohort.prompts, [&](const Variant& arm, const Cells& cells) {
        table.Add({{{scope}, arm}, cohort, cells});
      });
    }
  }
  return table.Finish();
}

}  // namespace kvr::report
