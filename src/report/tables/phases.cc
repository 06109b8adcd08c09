#include "arms.h"
#include "table_of.h"
#include "tables.h"

namespace kvr::report {
namespace {

struct Row : VariantRow {
  const Cohort& cohort;
  const Cells& cells;
};

// Median and 95th percentile of what `field`, of a cell, gives.
template <typename Field>
void Phase(TableOf<Row>* table, const std::string& key, const char* head, Field field) {
  table->Right((key + "_median_ms").c_str(), head,
               [field](const Row& row) { return Ms(MedianOf(row.cells, field)); });
  table->Right((key + "_p95_ms").c_str(), "p95",
               [field](const Row& row) { return Ms(Percentile(Collect(row.cells, field), 0.95)); });
}

}  // namespace

Table PhaseTable(const std::vector<Scope>& scopes) {
  TableOf<Row> table(
      "Where the time goes",
      "Median and 95th percentile over cells (type 7; none of fewer than 21 cells, of which it "
      "would lie between the two largest), in ms; others are in percentiles. Rows \"baseline "
      "block\" and \"baseline free\" are the baselines with the "
      "block schedule and with the best chunking, policy off is the null variant. decode/tok: "
      "decoding over new tokens less one.");
  table.Left("workload", [](const Row& row) { return Text(row.cohort.label); })
      .Policy()
      .Match()
      .Candidates()
      .Codec()
      .PageCache()
      .Right("cells", [](const Row& row) { return Count(std::ssize(row.cells)); });
  Phase(&table, "embed", "embed", &Cell::embed_ms);
  Phase(&table, "lookup", "lookup", &Cell::lookup_ms);
  Phase(&table, "restore", "restore", &Cell::restore_ms);
  Phase(&table, "prefill", "prefill", &Cell::prefill_ms);
  Phase(&table, "ttft", "TTFT", &Cell::ttft_ms);
  Phase(&table, "decode_per_token", "decode/tok", &Cell::DecodeMsPerToken);
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
