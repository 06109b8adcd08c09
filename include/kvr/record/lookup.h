// A look-up: one query, one way of finding entries, one number of them; and its line in
// lookups.jsonl (docs/results_format.md, whose table is made from the field list of
// src/record/lookup.cc). Nothing is generated, so it is no cell.
//
// Thread safety: plain values and pure functions.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "kvr/base/json.h"

namespace kvr::record {

struct Run;

// Times are milliseconds. Empty optionals are null in the file.
struct Lookup {
  std::string model, precision;
  std::string workload;  // what the cache has of the query
  bool control = false;  // which is nothing
  std::string prompt_id;
  std::int64_t repetition = 0;
  std::string policy, match;
  std::optional<std::int64_t> candidates;  // entries that policy embedding looks at
  std::int64_t distractors = 0;            // texts that are no query's own
  std::int64_t entries = 0;                // those and all queries' own
  std::int64_t prompt_tokens = 0;
  std::int64_t pieces = 0;  // word pieces of the query, the first and last that are no text too
  std::int64_t pieces_embedded = 0;  // of them, seen by the encoder
  std::int64_t available_depth = 0;  // what the match rule allows with the best of all entries
  std::int64_t reuse_depth = 0;      // what the policy found
  std::string limited_by;
  std::optional<double> similarity;  // of the nearest entry
  // Place in the order of similarity, from 1, of the first entry that gives the available depth.
  std::optional<std::int64_t> rank;
  std::optional<double> embed_ms;
  double lookup_ms = 0;
};

// What tells a look-up from all others of its run.
[[nodiscard]] std::string Identity(const Lookup& lookup);

// The line's object, schema included.
[[nodiscard]] Json ToJson(const Lookup& lookup);

// Reads ToJson()'s object, as CellFromJson does a cell's. Throws kCorrupt also for a depth above
// the available one, and for one that leaves no token to run.
[[nodiscard]] Lookup LookupFromJson(const Json& json, const std::string& where);

// Adds the lines of the file at `path` to the run, if it is there; what is wrong with them and yet
// tolerated is a warning, as for cells (run.h). Throws as LookupFromJson does.
void ReadLookups(const std::filesystem::path& path, Run* run);

// The fields of a line, as rows of docs/results_format.md: name, type, meaning.
[[nodiscard]] std::string DocumentLookup();

}  // namespace kvr::record
