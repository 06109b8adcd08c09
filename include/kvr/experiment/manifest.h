// What a sweep will do, shard by shard, before it does: cells, tokens, and how long that takes
// here.
//
// Thread safety: none; measuring uses all cores.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "kvr/base/json.h"
#include "kvr/experiment/config.h"
#include "kvr/experiment/shard.h"

namespace kvr::experiment {

// Of one short run of a model on this machine.
struct Speed {
  double prefill_ms_per_token = 0, decode_ms_per_token = 0;
  int prefilled_tokens = 0, decoded_tokens = 0;  // that were timed
};

// A config's prompts as one of its models reads them.
struct ManifestModel {
  std::string path, name, precision, fingerprint;
  std::vector<std::int64_t> prompt_tokens;  // of each test prompt
  std::vector<int> limits;                  // new tokens of those plans that go on
  std::int64_t cached_tokens = 0;           // of all cached prompts
  std::optional<Speed> speed;
};

struct ManifestShard {
  std::int64_t units = 0, prompts = 0, cells = 0;
  std::int64_t prompt_tokens = 0, new_tokens = 0;  // of all its cells, at most
  std::optional<double> seconds;
};

struct Manifest {
  std::vector<ManifestModel> models;
  std::vector<Unit> units;
  std::vector<ManifestShard> shards;  // by index
};

// All but speeds and times depends on config, prompts and archives alone. Cost: tokenizes all
// prompts. Throws as CheckArchives (prompts.h).
[[nodiscard]] Manifest MakeManifest(const Config& config, int shards);

// Loads each model and times it once: a prefill of the test prompt of median length, and a few
// decoded tokens, after the same unmeasured. A shard's time is that of its cells as if nothing were
// reused, of the reference runs that they are compared with, and of filling the caches. Loading,
// calibration, warm-ups and comparing are not in it.
void Estimate(const Config& config, const std::function<void(const std::string&)>& progress,
              Manifest* manifest);

// {"name", "prompts_sha256", "models": [...], "units": [...], "shards": [...]}
[[nodiscard]] Json ToJson(const Config& config, const Manifest& manifest);

}  // namespace kvr::experiment
