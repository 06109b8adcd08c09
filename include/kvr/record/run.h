// A run: run.json, the cells of cells.jsonl, the look-ups of lookups.jsonl, a trace's trace.jsonl
// (docs/results_format.md, whose tables are made from the field lists of src/record/run.cc).
//
// Thread safety: plain values and pure functions.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "kvr/base/json.h"
#include "kvr/record/cell.h"
#include "kvr/record/lookup.h"
#include "kvr/record/trace.h"

namespace kvr::record {

// How many rounds ran, and why no more.
struct Repetitions {
  std::optional<std::int64_t> rounds;
  std::optional<std::string> stopped_by;  // "fixed", "width", "most"
  std::optional<double> wanted_width;     // "until_width"
  // Of the 95 % interval of the first way of reuse's speed-up of the first token, high over low
  // less 1: what the noise among rounds leaves of it (repetitions.h); the whole.
  std::optional<double> width, interval_width;
};

struct ModelInfo {
  std::string name, precision;
  std::string device = "cpu";
  std::optional<std::string> fingerprint, encoder_fingerprint;
  bool random_weights = false;
  std::optional<bool> probe_exact;  // whether this machine passed the start-up probe
  std::optional<std::int64_t> probe_cuts;
  std::optional<std::int64_t> context_tokens;
  std::optional<std::int64_t> kv_bytes_per_token;  // in a buffer
  std::string baseline_schedule = "block";         // of the one baseline, chosen by the calibration
  bool baseline_given = false;                     // or by the user
  std::optional<std::int64_t> free_chunk_tokens;
  std::vector<double> calibration_block_ms, calibration_free_ms;
  std::map<std::string, std::int64_t> stored_bytes_per_token;  // in files, by codec
  Json cache_keys = Json::object();                            // by codec
  Repetitions repetitions;
};

// What saving one entry cost.
struct Fill {
  std::string model, precision, entry;
  std::optional<std::string> codec;
  std::int64_t tokens = 0;
  double prefill_ms = 0;
  double save_ms = 0;
  std::int64_t bytes = 0;  // written
  std::int64_t new_blocks = 0;
  std::int64_t shared_blocks = 0;
};

// Which part of its config's cells a run is.
struct ShardInfo {
  std::int64_t index = 0, count = 1;  // from 0
  std::vector<std::string> prompts;   // the tested ones of this shard
  std::int64_t cells = 0;             // that it has when it is finished
  bool operator==(const ShardInfo&) const = default;
};

// A shard that a run was merged of.
struct MergedShard {
  std::string folder;  // Run::label
  ShardInfo shard;
  std::int64_t found_cells = 0;
  Json environment = Json::object();
  std::optional<std::string> started, finished;
};

struct Merge {
  std::int64_t count = 0;           // of shards that the sweep was cut into
  std::vector<MergedShard> shards;  // that were there, by index
  std::vector<std::string> mixed;   // what differed between them and was allowed to
};

struct Run {
  std::string label;  // config name and folder name: "paper/20260131-120000"
  std::string name;
  std::int64_t schema = kResultsSchema;
  Json config = Json::object();
  Json config_in_full = Json::object();     // with the defaults of all that it leaves out
  std::vector<std::string> control_groups;  // workloads without any overlap with the cache
  std::vector<std::string> prompts;         // the tested ones; empty: not recorded
  std::optional<std::string> prompts_sha256;
  // The sweep's cache: its folder's subfolders, and whether it stays when the run is done.
  std::vector<std::string> cache_subfolders;
  bool cache_kept = false;
  Json environment = Json::object();
  std::vector<ModelInfo> models;
  std::vector<Fill> fill;
  std::optional<std::string> started;
  std::optional<std::string> finished;  // none: interrupted, or still running
  std::optional<ShardInfo> shard;       // none: all of the config's cells
  std::optional<Merge> merged;          // none: one sweep made it
  std::vector<Cell> cells;
  std::vector<Lookup> lookups;        // of a study that generates nothing; its run has no cells
  std::vector<TraceRow> trace;        // what arithmetic over a whole trace says
  std::int64_t stray_cells = 0;       // of a model or prompt that the run does not have: left out
  std::vector<std::string> warnings;  // what was wrong with the files and yet tolerated
};

// run.json's object. Cells, look-ups, the trace's rows, stray cells and warnings are not in it.
[[nodiscard]] Json ToJson(const Run& run);

// Reads ToJson()'s object; unknown fields are ignored. `where` names the place in errors. Throws
// kIncompatible for a newer schema, kCorrupt for a field that is missing, of the wrong type or
// impossible.
[[nodiscard]] Run RunFromJson(const Json& json, const std::string& where);

// Throws unless the run that was left in the folder `where` may be gone on with by the program,
// machine and config that `now` describes: kInvalidInput for another config, shard or prompts,
// kIncompatible for another version, machine, program or number of threads.
void CheckResumes(const Run& before, const Run& now, const std::string& where);

// Reads a run folder. A last line without its newline that is not JSON was cut off by a crash: it
// is left out with a warning, and so are a cell that was there before and stray cells. trace.jsonl
// may be absent. Throws kNotFound when another file is missing, kCorrupt naming file, line and
// field, kIncompatible for a newer schema.
[[nodiscard]] Run ReadRun(const std::filesystem::path& folder);

// The fields of run.json, of its models, of what filling cost, and of shards, as rows of
// docs/results_format.md.
[[nodiscard]] std::string DocumentRun();
[[nodiscard]] std::string DocumentModel();
[[nodiscard]] std::string DocumentFill();
[[nodiscard]] std::string DocumentShard();
[[nodiscard]] std::string DocumentMerge();
[[nodiscard]] std::string DocumentMergedShard();

}  // namespace kvr::record
