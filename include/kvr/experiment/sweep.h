// The sweep: fills a cache with a config's prompts, freezes it, and measures every test prompt by
// both arms, interleaved.
//
// Order. A round is one repetition of all prompts, in seeded random order. Of each prompt the
// scheduled baseline, the free baseline and each recycled configuration run one after another, in
// seeded random order; in the first round also a second scheduled baseline, the control. There all
// but the free baseline generate their full text; in later rounds cells stop at the first token.
// All but the free baseline are compared with a scheduled baseline that ran before the prompt's
// cells and is itself not measured, so that no arm has a place of its own in the order.
#pragma once

#include <filesystem>
#include <functional>

#include "kvr/experiment/config.h"

namespace kvr::experiment {

struct SweepOptions {
  std::filesystem::path folder;  // the run folder
  bool resume = false;           // go on with what `folder` has
  bool keep_cache = false;       // leave the filled cache in the folder when done
  // Called before each step: what is being done, steps done, steps in all (0: not known).
  std::function<void(const std::string& what, int done, int total)> progress;
};

// Looks at each archive that the config names, without loading its weights. Throws kNotFound,
// kCorrupt, kIncompatible for another kind of archive or another precision than the config says, or
// kInvalidInput for a setting that an archive does not allow.
void CheckArchives(const Config& config);

// Cells that the config makes for one model.
[[nodiscard]] int CellsPerModel(const Config& config);

// Runs the sweep. REQUIRES: CheckArchives did not throw. Every cell is one line of cells.jsonl,
// written when its comparison is known. Throws kInterrupted on Ctrl-C, leaving a folder that can be
// resumed; kInvalidInput when a prompt does not fit a model's context (before any of its cells
// runs) or a folder to be resumed has another config; kIncompatible when it was begun with other
// archives or another machine.
void RunSweep(const Config& config, const SweepOptions& options);

}  // namespace kvr::experiment
