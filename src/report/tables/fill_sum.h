// What filling one codec's cache cost, for the tables that weigh it.
#pragma once

#include <set>
#include <string>

#include "../samples.h"

namespace kvr::report {

// Summed over a model's entries.
struct FillSum {
  std::int64_t entries = 0, tokens = 0, bytes = 0, new_blocks = 0, shared_blocks = 0;
  double prefill_ms = 0, save_ms = 0;
};

inline bool IsOf(const Fill& fill, const Scope& scope) {
  return fill.model == scope.model && fill.precision == scope.precision;
}

inline FillSum FillOf(const Scope& scope, const std::string& codec) {
  FillSum sum;
  for (const Fill& fill : scope.run->fill) {
    if (!IsOf(fill, scope) || CodecOf(fill) != codec) continue;
    ++sum.entries;
    sum.tokens += fill.tokens;
    sum.bytes += fill.bytes;
    sum.new_blocks += fill.new_blocks;
    sum.shared_blocks += fill.shared_blocks;
    sum.prefill_ms += fill.prefill_ms;
    sum.save_ms += fill.save_ms;
  }
  return sum;
}

// Calls `row` with scope and each codec that its cells or its filling name.
template <typename F>
void ForEachCodec(const std::vector<Scope>& scopes, F row) {
  for (const Scope& scope : scopes) {
    std::set<CodecPlace> codecs;
    for (const Variant& variant : scope.variants) codecs.insert(scope.PlaceOf(variant.codec));
    for (const Fill& fill : scope.run->fill) {
      if (IsOf(fill, scope)) codecs.insert(scope.PlaceOf(CodecOf(fill)));
    }
    for (const CodecPlace& place : codecs) row(scope, std::get<2>(place));
  }
}

}  // namespace kvr::report
