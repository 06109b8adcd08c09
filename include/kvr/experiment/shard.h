// A shard: the part of a sweep's cells that one machine runs, the same wherever it is asked for
// (docs/scaling-out.md).
//
// Cells need nothing of one another, so that shards need neither order nor talk. All cells of a
// prompt are in one shard, and all prompts of a unit.
//
// Thread safety: pure functions of their arguments. Cost: a pass over the prompts.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "kvr/experiment/config.h"
#include "kvr/experiment/schedule.h"
#include "kvr/record/run.h"

namespace kvr::experiment {

struct Shard {
  int index = 0, count = 1;  // from 0
};

// Of shards, at most.
inline constexpr int kMostShards = 1'000'000;

// The value of an environment variable; null where it is not set.
using Environment = std::function<const char*(const char* name)>;

// "0/4" to "3/4"; or "auto" and "auto/4", whose index is that of the Slurm array task
// (SLURM_ARRAY_TASK_ID) or of the Kubernetes job (JOB_COMPLETION_INDEX) that this is. How many
// there are "auto" takes from a Slurm array of tasks 0 to N - 1; of others it must be told, since
// an array of other numbers is part of a larger one, or counts otherwise. Throws kInvalidInput for
// everything else.
[[nodiscard]] Shard ParseShard(const std::string& text, const Environment& environment);

// What may not be parted: prompts of one unit are in one shard.
[[nodiscard]] const std::string& UnitOf(const TestPrompt& prompt);

// Units in the order in which they first appear, each with its prompts' numbers.
struct Unit {
  std::string name;
  std::vector<std::size_t> prompts;
  int shard = 0;
};

// The config's units, each in one of `count` shards: the largest first, each to the shard that has
// least. A unit's size is its prompts' bytes, and for each prompt those of a mean one: a part of
// the work goes with a prompt's length, a part is the same for all. So each shard has a unit where
// there are as many. REQUIRES: `count` is from 1 to kMostShards.
[[nodiscard]] std::vector<Unit> UnitsOf(const Config& config, int count);

// Whether each test prompt is in the shard.
[[nodiscard]] std::vector<bool> PromptsOf(const Config& config, const Shard& shard);

// Cells that the config makes for one model, of those prompts.
[[nodiscard]] std::int64_t CellsPerModel(const Config& config, const std::vector<bool>& prompts);

// For run.json.
[[nodiscard]] record::ShardInfo Describe(const Config& config, const Shard& shard);

}  // namespace kvr::experiment
