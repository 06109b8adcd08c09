// A run: run.json and the cells of cells.jsonl (docs/results_format.md, whose tables are made from
// the field lists of src/record/run.cc).
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

namespace kvr::record {

struct ModelInfo {
  std::string name, precision;
  std::string device = "cpu";
  std::optional<std::string> fingerprint, encoder_fingerprint;
  bool random_weights = false;
  std::optional<bool> probe_exact;  // whether this machine passed the start-up probe
  std::optional<std::int64_t> probe_cuts;
  std::optional<std::int64_t> kv_bytes_per_token;  // in a buffer
  std::string baseline_schedule = "block";         // of the one baseline, chosen by the calibration
  std::optional<std::int64_t> free_chunk_tokens;
  std::vector<double> calibration_block_ms, calibration_free_ms;
  std::map<std::string, std::int64_t> stored_bytes_per_token;  // in files, by codec
  Json cache_keys = Json::object();                            // by codec
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

struct Run {
  std::string label;  // config name and folder name: "paper/20260131-120000"
  std::string name;
  std::int64_t schema = kResultsSchema;
  Json config = Json::object();
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
  std::vector<Cell> cells;
  std::int64_t stray_cells = 0;       // of a model or prompt that the run does not have: left out
  std::vector<std::string> warnings;  // what was wrong with the files and yet tolerated
};

// run.json's object. Cells, stray cells and warnings are not in it.
[[nodiscard]] Json ToJson(const Run& run);

// Reads ToJson()'s object; unknown fields are ignored. `where` names the place in errors. Throws
// kIncompatible for a newer schema, kCorrupt for a field that is missing, of the wrong type or
// impossible.
[[nodiscard]] Run RunFromJson(const Json& json, const std::string& where);

// Throws unless the run that was left in the folder `where` may be gone on with by the program,
// machine and config that `now` describes: kInvalidInput for another config or other prompts,
// kIncompatible for another version, machine, program or number of threads.
void CheckResumes(const Run& before, const Run& now, const std::string& where);

// Reads a run folder. A last line without its newline that is not JSON was cut off by a crash: it
// is left out with a warning, and so are a cell that was there before and stray cells. Throws
// kNotFound when a file is missing, kCorrupt naming file, line and field, kIncompatible for a newer
// schema.
[[nodiscard]] Run ReadRun(const std::filesystem::path& folder);

// The fields of run.json, of its models and of what filling cost, as rows of
// docs/results_format.md.
[[nodiscard]] std::string DocumentRun();
[[nodiscard]] std::string DocumentModel();
[[nodiscard]] std::string DocumentFill();

}  // namespace kvr::record
