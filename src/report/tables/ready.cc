#include <spdlog/fmt/fmt.h>

#include "table_of.h"
#include "tables.h"

namespace kvr::report {

Table ReadyTable(const std::vector<Scope>& scopes) {
  struct Row : ScopeRow {
    std::string codec;
    std::int64_t bytes_per_token;
  };
  TableOf<Row> table(
      "Context that stays ready, by what it may take",
      "Tokens whose saved keys and values fit into so much disk, or into so much memory where the "
      "page cache shall hold the files: the budget over the bytes that a token takes as the codec "
      "stores it. Files' heads, some hundred bytes a block, are not in it. in contexts: how many "
      "whole contexts of the model 16 GiB hold.");
  table.Left("codec", [](const Row& row) { return Text(row.codec); })
      .Right("bytes_per_token", "bytes/token",
             [](const Row& row) { return Count(row.bytes_per_token); });
  for (const std::int64_t gib : {1, 4, 16, 64}) {
    table.Right(fmt::format("tokens_in_{}_gib", gib).c_str(), fmt::format("{} GiB", gib).c_str(),
                [gib](const Row& row) { return Count((gib << 30) / row.bytes_per_token); });
  }
  table.Right("contexts_in_16_gib", "in contexts", [](const Row& row) {
    const ModelInfo* const info = row.scope.info;
    if (info == nullptr || !info->context_tokens) return Value{};
    const std::int64_t tokens = (std::int64_t{16} << 30) / row.bytes_per_token;
    return Formatted("%.1f", Quotient(tokens, *info->context_tokens));
  });
  for (const Scope& scope : scopes) {
    if (scope.info == nullptr) continue;
    for (const auto& [codec, bytes] : scope.info->stored_bytes_per_token) {
      if (bytes > 0) table.Add({{scope}, codec, bytes});
    }
  }
  return table.Finish();
}

}  // namespace kvr::report
