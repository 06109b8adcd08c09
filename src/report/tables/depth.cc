#include <array>
#include <map>
#include <tuple>

#include "table_of.h"
#include "tables.h"

namespace kvr::report {
namespace {

struct Bucket {
  const char* label;
  std::int64_t from;
};
constexpr std::array<Bucket, 6> kBuckets = {
    {{"0", 0}, {"1-63", 1}, {"64-127", 64}, {"128-255", 128}, {"256-511", 256}, {"512+", 512}}};

std::size_t DepthBucketOf(const Cell& cell) {
  std::size_t bucket = kBuckets.size() - 1;
  while (cell.reuse_depth < kBuckets[bucket].from) --bucket;
  return bucket;
}

// Each prompt's cells in each bucket, by policy, codec and page cache.
using CellsOfPrompts = std::map<const PromptCells*, Cells>;
using Group = std::tuple<std::string, CodecPlace, std::string>;
using Groups = std::map<Group, std::array<CellsOfPrompts, kBuckets.size()>>;

Groups GroupsOf(const Scope& scope) {
  Groups groups;
  for (const PromptCells& prompt : scope.prompts) {
    for (const auto& [variant, cells] : prompt.recycled) {
      if (variant == NullVariant()) continue;
      auto& buckets = groups[{variant.policy, scope.PlaceOf(variant.codec), variant.page_cache}];
      for (const Cell* cell : cells) buckets[DepthBucketOf(*cell)][&prompt].push_back(cell);
    }
  }
  return groups;
}

struct DepthRow : VariantRow {
  const char* bucket;
  std::int64_t prompts, cells;
  std::optional<Estimate> speedup;
  Samples ratios;  // of each cell
};

DepthRow MakeDepthRow(const Scope& scope, const Variant& variant, const char* bucket,
                      const CellsOfPrompts& cells_of) {
  DepthRow row{{{scope}, variant}, bucket, std::ssize(cells_of), 0, {}, {}};
  std::vector<const PromptCells*> prompts;
  for (const auto& [prompt, cells] : cells_of) {
    prompts.push_back(prompt);
    row.cells += std::ssize(cells);
    for (const Cell* cell : cells) {
      const Number ratio = Quotient(BaselineTtft(*prompt), Number(cell->ttft_ms));
      if (ratio) row.ratios.push_back(*ratio);
    }
  }
  row.speedup =
      EstimateOver(prompts, [&](const PromptCells& p) { return TtftSpeedup(p, cells_of.at(&p)); });
  return row;
}

}  // namespace

Table DepthTable(const std::vector<Scope>& scopes) {
  TableOf<DepthRow> table(
      "Speedup against depth",
      "Recycled cells of all match rules and numbers of candidates by tokens restored. speedup: "
      "geometric mean over prompts of the baseline's median TTFT over the median TTFT of the "
      "prompt's cells of that depth, with its 95 % interval and adjusted p as in workloads; least "
      "and greatest: "
      "of any cell. Depth 0 shows what a miss costs.");
  table.Policy()
      .Codec()
      .PageCache()
      .Left("depth", [](const DepthRow& row) { return Text(row.bucket); })
      .Right("prompts", [](const DepthRow& row) { return Count(row.prompts); })
      .Right("cells", [](const DepthRow& row) { return Count(row.cells); })
      .Interval("ttft_speedup", "speedup", &DepthRow::speedup)
      .PHolm("ttft_speedup", &DepthRow::speedup)
      .Right("ttft_speedup_min", "least",
             [](const DepthRow& row) { return Times(Quantile(row.ratios, 0)); })
      .Right("ttft_speedup_max", "greatest",
             [](const DepthRow& row) { return Times(Quantile(row.ratios, 1)); });
  for (const Scope& scope : scopes) {
    for (const auto& [group, buckets] : GroupsOf(scope)) {
      const auto& [policy, codec, page_cache] = group;
      const Variant variant{
          .policy = policy, .codec = std::get<2>(codec), .page_cache = page_cache};
      for (std::size_t i = 0; i < buckets.size(); ++i) {
        table.Add(MakeDepthRow(scope, variant, kBuckets[i].label, buckets[i]));
      }
    }
  }
  return table.Finish();
}

}  // namespace kvr::report
