// What arithmetic over a trace of requests says that a cache would have held: a line of trace.jsonl
// (docs/results_format.md, whose table is made from the field list of src/record/trace.cc).
//
// Thread safety: plain values and pure functions.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kvr/base/json.h"

namespace kvr::record {

// What one rule at one budget did in one bin of the trace's time.
struct TraceRow {
  std::string trace;                              // its file's name
  std::optional<std::string> model, precision;    // whose bytes a token is; none: of no model
  std::optional<std::string> codec;               // likewise
  std::string rule;                               // "lru", "belady", "infinite"
  std::optional<std::uint64_t> budget_blocks;     // none: everything stays
  std::optional<std::uint64_t> budget_bytes;      // that many blocks' bytes
  std::optional<std::uint64_t> bytes_per_token;   // none: not known
  std::int64_t block_tokens = 0;                  // tokens that a hash id stands for
  std::int64_t bin = 0;                           // from 0
  double start_s = 0, end_s = 0;                  // since the first request; the end is outside
  std::int64_t requests = 0, hit_requests = 0;    // arrived in the bin; had a hit
  std::int64_t input_tokens = 0, hit_tokens = 0;  // of these requests; restored, at most n - 1
  std::int64_t input_blocks = 0, hit_blocks = 0;  // a partial block counts as one
  std::int64_t evicted_blocks = 0;                // dropped to keep the budget
  std::int64_t held_blocks = 0;                   // after the bin's last request
  bool operator==(const TraceRow&) const = default;
};

// The line's object, schema included.
[[nodiscard]] Json ToJson(const TraceRow& row);

// Reads ToJson()'s object; unknown fields are ignored. `where` names the place in errors. Throws
// kIncompatible for a newer schema, kCorrupt for a field that is missing, of the wrong type or
// impossible.
[[nodiscard]] TraceRow TraceRowFromJson(const Json& json, const std::string& where);

// The fields as rows of docs/results_format.md.
[[nodiscard]] std::string DocumentTrace();

}  // namespace kvr::record
