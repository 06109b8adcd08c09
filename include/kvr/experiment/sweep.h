// The sweep: fills a cache with a config's prompts, freezes it, and measures every test prompt by
// both arms, interleaved.
//
// Order. A round is one repetition of all prompts, in seeded random order. Of each prompt the
// baseline, the same again (the control), the same sent through the recycled arm (the null variant)
// and each way of reuse run one after another, in seeded random order, each decoded to its mark.
// There is one baseline for a model: the schedule, or free pieces where a calibration that no
// comparison uses found them faster by more than 2 %. All are compared with a scheduled baseline
// that is itself not measured, so that no arm has a place of its own in the order.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>

#include "kvr/experiment/config.h"

namespace kvr::experiment {

struct SweepOptions {
  std::filesystem::path folder;  // the run folder
  bool resume = false;           // go on with what `folder` has
  bool keep_cache = false;       // leave the filled cache in the folder when done
  // Called before each step: what is being done, steps done, steps in all (0: not known).
  std::function<void(const std::string& what, std::int64_t done, std::int64_t total)> progress;
  std::function<void()> first_cell;  // called when the run has its first cell
};

// Looks for the device and at each archive that the config names, without loading its weights, and
// reads the prompts with its tokenizer. Throws kNotFound, kCorrupt, kIncompatible for another kind
// of archive or another precision than the config says, or kInvalidInput for a setting or a prompt
// that an archive does not allow.
void CheckArchives(const Config& config);

// Cells that the config makes for one model.
[[nodiscard]] std::int64_t CellsPerModel(const Config& config);

// Runs the sweep. REQUIRES: CheckArchives did not throw. Every cell is one line of cells.jsonl,
// durable when its comparison is known. The folder is locked meanwhile. Throws kInterrupted on
// Ctrl-C, leaving a folder that can be resumed; kResource when another sweep has the folder;
// kInvalidInput when a folder to be resumed has another config; kCorrupt for one whose files are
// damaged or have cells that the config does not make; kIncompatible when it was begun with other
// archives or on another machine.
void RunSweep(const Config& config, const SweepOptions& options);

}  // namespace kvr::experiment
