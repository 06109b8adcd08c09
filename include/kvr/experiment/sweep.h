// The sweep: fills a cache with a config's prompts, freezes it, and measures every test prompt by
// both arms, interleaved (schedule.h).
//
// There is one baseline for a model (calibration.h). All cells are compared with a scheduled
// baseline that is itself not measured, so that no arm has a place of its own in the order.
//
// A shard (shard.h) runs what the whole sweep runs, in its order, but for other shards' cells: it
// fills all cached prompts, since lookups choose among all of them, warms up alike and calibrates
// alike. Only its baseline is not its own to choose.
//
// Thread safety: none within a process; between processes the run's folder is locked.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "kvr/experiment/calibration.h"
#include "kvr/experiment/config.h"
#include "kvr/experiment/executor.h"
#include "kvr/experiment/shard.h"

namespace kvr::experiment {

struct SweepOptions {
  std::filesystem::path folder;  // the run folder
  bool resume = false;           // go on with what `folder` has
  bool keep_cache = false;       // leave the filled cache in the folder when done
  std::optional<Shard> shard;    // nothing: all cells
  // Nothing: the calibration's; the schedule where this is a shard, since shards may be calibrated
  // on unlike machines and are to have one baseline.
  std::optional<BaselineChoice> baseline;
  // Called before each step: what is being done, steps done, steps in all (0: not known).
  std::function<void(const std::string& what, std::int64_t done, std::int64_t total)> progress;
  std::function<void()> first_cell;  // called when the run has its first cell
};

// Runs the sweep. REQUIRES: CheckArchives (prompts.h) did not throw. Every cell is one line of
// cells.jsonl, durable when its comparison is known. The folder is locked meanwhile. Throws
// kInterrupted on Ctrl-C, leaving a folder that can be resumed; kResource when another sweep has
// the folder; kInvalidInput when a folder to be resumed has another config, shard or baseline;
// kCorrupt for one whose files are damaged or have cells that the config does not make;
// kIncompatible when it was begun with other archives or on another machine.
void RunSweep(const Config& config, const SweepOptions& options);
// The same by another executor.
void RunSweep(const Config& config, const SweepOptions& options, Executor& executor);

}  // namespace kvr::experiment
