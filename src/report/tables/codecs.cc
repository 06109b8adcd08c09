#include "fill_sum.h"
#include "table_of.h"
#include "tables.h"

namespace kvr::report {
namespace {

struct CodecsRow : ScopeRow {
  std::string codec;
  Cells cells, hits, compared;
  FillSum fill;
};

CodecsRow MakeCodecsRow(const Scope& scope, const std::string& codec) {
  CodecsRow row{{scope}, codec, {}, {}, {}, FillOf(scope, codec)};
  for (const Variant& variant : scope.variants) {
    if (variant.codec != codec) continue;
    const Cells own = AllRecycledBy(Pointers(scope.prompts), variant);
    row.cells.insert(row.cells.end(), own.begin(), own.end());
  }
  row.hits = Only(row.cells, IsHit);
  row.compared = Only(Only(row.hits, IsFull), IsCompared);
  return row;
}

bool AskedWarm(const Cell& cell) { return cell.asked_page_cache != "cold"; }

Value StoredBytes(const CodecsRow& row) {
  if (row.scope.info == nullptr) return {};
  const auto stored = row.scope.info->stored_bytes_per_token.find(row.codec);
  return stored == row.scope.info->stored_bytes_per_token.end() ? Value{} : Count(stored->second);
}

Value FirstDivergence(const CodecsRow& row) {
  std::optional<std::int64_t> first;
  for (const Cell* cell : row.compared) {
    const std::optional<std::int64_t>& own = cell->fidelity->first_divergence;
    if (own && (!first || *own < *first)) first = own;
  }
  return first ? Count(*first) : Value{};
}

}  // namespace

Table CodecTable(const std::vector<Scope>& scopes) {
  TableOf<CodecsRow> table(
      "Cache codecs",
      "Recycled cells of all policies and match rules by the codec of their cache. bytes/token: in "
      "a block's file, keys and values of all layers with their scales. fill: saving all entries, "
      "without the prefill, in ms. restore: median over hits of warm files, in ms: read, check, "
      "decode. What "
      "follows is of hits that were decoded to the end and compared with the baseline: "
      "exact: all logits and tokens equal bit for bit; diverged: another token than the "
      "baseline's came, the earliest as new token number first (from 0); max abs diff: the "
      "greatest "
      "absolute difference of any logit; mean KL and top-1: means over cells along the baseline's "
      "tokens, KL in nats. Only fp32 claims to be exact.");
  table.Left("codec", [](const CodecsRow& row) { return Text(row.codec); })
      .Right("stored_bytes_per_token", "bytes/token", StoredBytes)
      .Right("fill_ms", "fill",
             [](const CodecsRow& row) {
               return row.fill.entries > 0 ? Ms(row.fill.save_ms) : Value{};
             })
      .Right("restore_median_ms", "restore",
             [](const CodecsRow& row) {
               return Ms(MedianOf(Only(row.hits, AskedWarm), &Cell::restore_ms));
             })
      .Right("cells", [](const CodecsRow& row) { return Count(std::ssize(row.cells)); })
      .Right("hits", [](const CodecsRow& row) { return Count(std::ssize(row.hits)); })
      .Right("compared", [](const CodecsRow& row) { return Count(std::ssize(row.compared)); })
      .Right("exact_share", "exact",
             [](const CodecsRow& row) { return RateOf(row.compared, IsExact); })
      .Right("diverged_share", "diverged",
             [](const CodecsRow& row) {
               return RateOf(row.compared, [](const Cell& cell) { return !HasSameTokens(cell); });
             })
      .Right("first_divergence", "first", FirstDivergence)
      .Right("max_abs_logit_diff", "max abs diff",
             [](const CodecsRow& row) {
               return Small(Greatest(row.compared, &Fidelity::max_abs_logit_diff));
             })
      .Right("kl_mean", "mean KL",
             [](const CodecsRow& row) { return Small(MeanOf(row.compared, &Fidelity::kl_mean)); })
      .Right("kl_max", "max KL",
             [](const CodecsRow& row) { return Small(Greatest(row.compared, &Fidelity::kl_max)); })
      .Right("top1", "top-1", [](const CodecsRow& row) {
        return Formatted("%.4f", MeanOf(row.compared, &Fidelity::top1));
      });
  ForEachCodec(scopes, [&](const Scope& scope, const std::string& codec) {
    table.Add(MakeCodecsRow(scope, codec));
  });
  return table.Finish();
}

}  // namespace kvr::report
