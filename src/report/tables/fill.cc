#include "fill_sum.h"
#include "table_of.h"
#include "tables.h"

namespace kvr::report {

Table FillTable(const std::vector<Scope>& scopes) {
  struct Row : ScopeRow {
    std::string codec;
    FillSum sum;
  };
  TableOf<Row> table("What filling the cache cost",
                     "Sums over entries. ms/token: saving only, without the prefill. bytes: "
                     "written to disk; below tokens times KV bytes where entries share blocks.");
  table.Left("codec", [](const Row& row) { return Text(row.codec); })
      .Right("entries", [](const Row& row) { return Count(row.sum.entries); })
      .Right("tokens", [](const Row& row) { return Count(row.sum.tokens); })
      .Right("prefill_ms", [](const Row& row) { return Ms(row.sum.prefill_ms); })
      .Right("save_ms", [](const Row& row) { return Ms(row.sum.save_ms); })
      .Right("save_ms_per_token", "ms/token",
             [](const Row& row) {
               return Ms(
                   Quotient(Number(row.sum.save_ms), Number(static_cast<double>(row.sum.tokens))));
             })
      .Right("bytes", [](const Row& row) { return Count(row.sum.bytes); })
      .Right(
          "bytes_per_token", "bytes/token",
          [](const Row& row) { return Formatted("%.0f", Quotient(row.sum.bytes, row.sum.tokens)); })
      .Right("kv_bytes_per_token", "KV bytes/token",
             [](const Row& row) {
               const ModelInfo* const info = row.scope.info;
               return info != nullptr && info->kv_bytes_per_token ? Count(*info->kv_bytes_per_token)
                                                                  : Value{};
             })
      .Right("new_blocks", [](const Row& row) { return Count(row.sum.new_blocks); })
      .Right("shared_blocks", "shared",
             [](const Row& row) { return Count(row.sum.shared_blocks); });
  ForEachCodec(scopes, [&](const Scope& scope, const std::string& codec) {
    const FillSum sum = FillOf(scope, codec);
    if (sum.entries > 0) table.Add({{scope}, codec, sum});
  });
  return table.Finish();
}

}  // namespace kvr::report
