// One run of a sweep's shards, each of which some machine ran by itself (docs/scaling-out.md).
//
// A prompt's cells are all of one shard, so that no ratio has two machines in it; means over
// prompts have.
//
// Thread safety: pure functions of their arguments. Cost: one pass over the cells.
#pragma once

#include <string>
#include <vector>

#include "kvr/record/run.h"

namespace kvr::record {

struct MergeOptions {
  bool allow_holes = false;  // shards that are missing, or that lack cells
  bool allow_mixed = false;  // other configs, prompts, archives or versions of the program
};

// The run whose cells are those of `shards`, in the order of their indices, whatever order they
// come in. What is one shard's own stays in Run::merged. Of `fill`, of which each shard has its
// own, the first shard's. A run with holes is not finished.
//
// Throws, always, for what would make a wrong run: kInvalidInput for none at all, for a run that is
// no shard, shards of other numbers, and a shard, prompt or session that is there twice;
// kIncompatible for results of another version and for baselines of unlike schedules; kCorrupt for
// cells that a shard should not have. Throws, unless `options` allow it, kInvalidInput for holes
// and for other configs or prompts; kIncompatible for other archives or versions of the program.
// Another machine is no error.
[[nodiscard]] Run MergeShards(std::vector<Run> shards, const MergeOptions& options);

// What a reader of a merged run should know: which shards it lacks, what was mixed, and in what
// their machines differ. Empty for a run that was not merged, or of like machines.
[[nodiscard]] std::vector<std::string> DescribeMerge(const Run& run);

}  // namespace kvr::record
