// A cell: one prompt, one arm, one configuration, one repetition; and its line in cells.jsonl
// (docs/results_format.md, whose tables are made from the field lists of src/record/cell.cc).
//
// Thread safety: plain values and pure functions.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kvr/base/json.h"
#include "kvr/base/types.h"

namespace kvr::record {

// Version of run.json and of each line of cells.jsonl.
inline constexpr int kResultsSchema = 2;

// A cell's output against that of the baseline that ran, unmeasured, before its prompt's cells.
struct Fidelity {
  bool exact = false;  // all logits compared are equal bit for bit, and so are the tokens
  std::optional<std::int64_t> compared_tokens;
  std::optional<std::int64_t> first_divergence;  // first new token that differs; none: all equal
  std::optional<double> max_abs_logit_diff;
  std::optional<double> kl_mean, kl_max, top1;  // teacher-forced along the baseline's tokens
  std::optional<double> cosine, rouge_l;        // of the output texts
  std::optional<std::string>
      semantic;  // "measured", or why not: "random weights", "empty replies", ...
};

// What a cell did, in numbers that are the same on every machine and at every load.
struct Work {
  std::int64_t prefilled_tokens = 0;
  std::int64_t forward_passes = 0;
  std::int64_t restored_blocks = 0;
  std::int64_t compared_entries = 0;
  std::int64_t opened_files = 0;
  bool operator==(const Work&) const = default;
};

// One line of cells.jsonl. Times are milliseconds. Empty optionals are null in the file.
struct Cell {
  std::string model, precision, workload, prompt_id;
  std::int64_t repetition = 0;
  std::string arm;                   // "baseline" or "recycled"
  std::string schedule;              // "block", or "free" (baseline with the best chunking)
  bool control = false;              // a second run of the baseline in the same round
  std::string policy;                // "off", "embedding", "prefix"
  std::optional<std::string> match;  // "whole", "token", "block"
  std::optional<std::string> codec;  // of the store: "fp32" (also where it is absent), "int8", ...
  std::optional<std::int64_t> candidates;       // entries that policy embedding looks at
  std::optional<std::string> asked_page_cache;  // "warm", "cold": what the way of reuse asks for
  std::optional<std::uint64_t> seed;            // of this repetition's sampling; none: greedy
  // The cached prompt that shares most tokens with this one; prompts of one parent are a cluster.
  std::optional<std::string> cached_parent;
  // The conversation or trace session that the prompt belongs to, which is its cluster instead; and
  // its place there, from 1.
  std::optional<std::string> session;
  std::optional<std::int64_t> turn;
  // The prompt's tokens ahead of its own turn: the conversation so far, or the document.
  std::optional<std::int64_t> history_tokens;
  std::string outcome;  // "hit", "miss", "off"
  std::optional<std::string> limited_by;
  bool exact_claimed = false;
  std::int64_t prompt_tokens = 0;
  std::int64_t reuse_depth = 0;
  std::optional<std::int64_t> expected_depth;   // what the workload's arithmetic says it must be
  std::optional<std::int64_t> available_depth;  // what the prefix policy finds for this prompt
  std::optional<double> similarity;  // of the prompt and the used entry, or the nearest on a miss
  std::optional<std::string> entry, page_cache;
  std::optional<std::int64_t> restored_bytes;
  std::optional<Work> work;
  std::optional<double> embed_ms, lookup_ms, restore_ms;
  double prefill_ms = 0;
  double ttft_ms = 0;
  std::optional<double> decode_ms, total_ms;
  // Time from the start until so many new tokens were there, at each mark of the config reached.
  std::optional<std::map<std::int64_t, double>> totals_ms;
  std::optional<std::int64_t> peak_memory_bytes;  // resident, of the whole process
  // The whole cell; what all other processes computed meanwhile; what the hypervisor took.
  std::optional<double> wall_ms, other_cpu_ms, steal_ms;
  std::int64_t new_tokens = 0;
  bool full = true;  // false: the cell stopped at the first token
  Tokens tokens;
  std::string text;
  std::int64_t truncated_tokens = 0;
  std::optional<Fidelity> fidelity;

  [[nodiscard]] bool recycled() const { return arm == "recycled"; }
  [[nodiscard]] bool hit() const { return outcome == "hit"; }
  // The baseline's work sent through the recycled arm: what the pipeline itself costs.
  [[nodiscard]] bool is_null() const { return recycled() && policy == "off"; }
  // Time for each token after the first. Nothing for a cell that has none.
  [[nodiscard]] std::optional<double> DecodeMsPerToken() const;
};

// What the cell's prompt depends on, as far as the statistics go: prompts of one session, or else
// of one cached parent, have the same.
[[nodiscard]] std::string ClusterOf(const Cell& cell);

// What tells a cell from all others of its run.
[[nodiscard]] std::string Identity(const Cell& cell);

[[nodiscard]] Json ToJson(const Fidelity& fidelity);

// The line's object, schema included.
[[nodiscard]] Json ToJson(const Cell& cell);

// Reads ToJson()'s object; unknown fields are ignored, a nullable field may be absent. `where`
// names the place in errors. Throws kIncompatible for a newer schema, kCorrupt for a field that is
// missing, of the wrong type or impossible.
[[nodiscard]] Cell CellFromJson(const Json& json, const std::string& where);

// The fields of a line, of its work and of its fidelity, as rows of docs/results_format.md: name,
// type, meaning.
[[nodiscard]] std::string DocumentCell();
[[nodiscard]] std::string DocumentWork();
[[nodiscard]] std::string DocumentFidelity();

}  // namespace kvr::record
