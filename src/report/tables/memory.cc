#include "arms.h"
#include "table_of.h"
#include "tables.h"

namespace kvr::report {
namespace {

struct MemoryRow : VariantRow {
  std::int64_t cells;
  Samples bytes;  // of those that know
};

Value MiB(Number bytes) { return Formatted("%.1f", bytes, 1.0 / (1 << 20)); }

Number Peak(const Cell& cell) {
  return cell.peak_memory_bytes ? Number(static_cast<double>(*cell.peak_memory_bytes)) : Number();
}

}  // namespace

Table MemoryTable(const std::vector<Scope>& scopes) {
  TableOf<MemoryRow> table(
      "Peak memory by arm",
      "The most that was resident while a cell ran, in MiB, median and greatest over cells: of the "
      "whole process, so that weights, buffers, what the sweep keeps to compare with, and "
      "memory that earlier cells left with the allocator are in it. Arms run by turns in one "
      "process: compare medians, and take a difference between arms for what a cell adds at the "
      "least. The page cache is not in it.");
  table.HowReused()
      .Right("cells", [](const MemoryRow& row) { return Count(row.cells); })
      .Right("known", [](const MemoryRow& row) { return Count(std::ssize(row.bytes)); })
      .Right("peak_memory_bytes_median", "median",
             [](const MemoryRow& row) { return MiB(Median(row.bytes)); })
      .Right("peak_memory_bytes_max", "greatest",
             [](const MemoryRow& row) { return MiB(Quantile(row.bytes, 1)); });
  for (const Scope& scope : scopes) {
    ForEachArm(scope, Pointers(scope.prompts), [&](const Variant& arm, const Cells& cells) {
      table.Add({{{scope}, arm}, std::ssize(cells), Collect(cells, Peak)});
    });
  }
  return table.Finish();
}

}  // namespace kvr::report
