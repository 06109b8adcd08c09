#include "table_of.h"
#include "tables.h"

namespace kvr::report {
namespace {

// A baseline's row has its schedule in the place of the match rule.
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
               [field](const Row& row) { return Ms(P95(Collect(row.cells, field))); });
}

void AddRows(const Scope& scope, const Cohort& cohort, TableOf<Row>* table) {
  const auto add = [&](const Variant& variant, const Cells& cells) {
    if (!cells.empty()) table->Add({{{scope}, variant}, cohort, cells});
  };
  Cells baseline, other;
  for (const PromptCells* prompt : cohort.prompts) {
    baseline.insert(baseline.end(), prompt->baseline.begin(), prompt->baseline.end());
    other.insert(other.end(), prompt->other_baseline.begin(), prompt->other_baseline.end());
  }
  const std::string schedule = scope.Schedule();
  add({.policy = "baseline", .match = schedule}, baseline);
  add({.policy = "baseline", .match = schedule == "free" ? "block" : "free"}, other);
  for (const Variant& variant : scope.NullAndVariants()) {
    add(variant, AllRecycledBy(cohort.prompts, variant));
  }
}

}  // namespace

Table PhaseTable(const std::vector<Scope>& scopes) {
  TableOf<Row> table(
      "Where the time goes",
      "Median and 95th percentile over cells (type 7; below 21 cells it lies between the two "
      "largest), in ms. Rows \"baseline block\" and \"baseline free\" are the baselines with the "
      "block schedule and with the best chunking, policy off is the null variant. decode/tok: "
      "decoding over new tokens less one.");
  table.Left("workload", [](const Row& row) { return Text(row.cohort.label); })
      .Policy()
      .Match()
      .Candidates()
      .Left("codec",
            [](const Row& row) {
              return row.variant.codec.empty() ? Value{} : Text(row.variant.codec);
            })
      .PageCache()
      .Right("cells", [](const Row& row) { return Count(std::ssize(row.cells)); });
  Phase(&table, "embed", "embed", &Cell::embed_ms);
  Phase(&table, "lookup", "lookup", &Cell::lookup_ms);
  Phase(&table, "restore", "restore", &Cell::restore_ms);
  Phase(&table, "prefill", "prefill", &Cell::prefill_ms);
  Phase(&table, "ttft", "TTFT", &Cell::ttft_ms);
  Phase(&table, "decode_per_token", "decode/tok", &Cell::DecodeMsPerToken);
  for (const Scope& scope : scopes) {
    for (const Cohort& cohort : CohortsOf(scope)) AddRows(scope, cohort, &table);
  }
  return table.Finish();
}

}  // namespace kvr::report
