// Whether two runs may be compared, and in what.
#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <array>

#include "compare.h"
#include "kvr/base/error.h"

namespace kvr::report {
namespace {

// Settings that decide no cell's work, or that models' fingerprints and prompts' digest stand for.
constexpr auto kFreeSettings = std::to_array<std::string_view>(
    {"name", "description", "models", "precisions", "encoder", "cache_prompts", "test_prompts",
     "repetitions", "warmups", "threads"});
// What decides an output's last bit; a model's device does, too.
constexpr auto kBits = std::to_array<const char*>({"cpu_model", "instruction_set", "threads"});
// What decides a time.
constexpr auto kMachine = std::to_array<const char*>(
    {"cpu_model", "instruction_set", "threads", "libtorch_version", "build_type"});

std::string Said(const Json& json) {
  return json.is_null() ? "not known" : Shortened(DumpLine(json), 80);
}
std::string Said(const std::optional<std::string>& text) {
  return text ? text->substr(0, 12) : "not known";
}

Json Setting(const Run& run, const std::string& key) { return run.config.value(key, Json()); }

std::vector<std::string> ConfigDifferences(const Run& base, const Run& now) {
  std::vector<std::string> differences;
  if (base.schema != now.schema) {
    differences.push_back(fmt::format("schema {}, was {}", now.schema, base.schema));
  }
  std::set<std::string> keys;
  for (const Run* run : {&base, &now}) {
    for (const auto& [key, value] : run->config.items()) keys.insert(key);
  }
  for (const std::string& key : keys) {
    if (std::ranges::count(kFreeSettings, key) > 0 || Setting(base, key) == Setting(now, key)) {
      continue;
    }
    const auto said = [&](const Run& run) {
      return run.config.contains(key) ? Said(Setting(run, key)) : std::string("not set");
    };
    differences.push_back(fmt::format("config \"{}\" is {}, was {}", key, said(now), said(base)));
  }
  if (base.prompts_sha256 != now.prompts_sha256) {
    differences.push_back(fmt::format("prompts_sha256 {}, was {}", Said(now.prompts_sha256),
                                      Said(base.prompts_sha256)));
  }
  return differences;
}

void Refuse(const Run& base, const Run& now, const std::vector<std::string>& differences) {
  if (differences.empty()) return;
  throw InvalidInput(fmt::format("{} can't be compared with {}: {}", now.label, base.label,
                                 fmt::join(differences, "; ")));
}

const ModelInfo* FindModel(const Run& run, const ModelInfo& wanted) {
  const auto found = std::ranges::find_if(run.models, [&](const ModelInfo& model) {
    return model.name == wanted.name && model.precision == wanted.precision;
  });
  return found == run.models.end() ? nullptr : &*found;
}

// The kernels' name, as the cache keys of all codecs have it.
std::string KernelsOf(const ModelInfo& model) {
  for (const auto& [codec, key] : model.cache_keys.items()) {
    if (key.is_object() && key.contains("kernel_path")) return DumpLine(key["kernel_path"]);
  }
  return "";
}

// libtorch's kernels take whole blocks alone, ours longer chunks where the probe holds.
bool CutAlike(const ModelInfo& a, const ModelInfo& b) {
  const auto torch = [](const ModelInfo& model) { return KernelsOf(model) == "\"torch\""; };
  return a.probe_exact == b.probe_exact && torch(a) == torch(b);
}

bool HaveOneBaseline(const ModelInfo& a, const ModelInfo& b) {
  return a.baseline_schedule == b.baseline_schedule &&
         (a.baseline_schedule != "free" || a.free_chunk_tokens == b.free_chunk_tokens);
}

void Note(const ModelPair& pair, std::vector<std::string>* notes) {
  const std::string name = fmt::format("{} ({})", pair.base->name, pair.base->precision);
  if (!pair.same_probe) {
    notes->push_back(name +
                     ": the probe that cuts change no bit came out otherwise on the other "
                     "machine: exactness is compared only where NEW claims it");
  }
  if (!pair.same_cuts) {
    notes->push_back(name +
                     ": forward passes are not compared: prompts are cut otherwise, as the "
                     "probe or the kernels on that machine have it");
  }
  if (!pair.same_baseline) {
    const auto said = [](const ModelInfo& model) {
      return model.baseline_schedule == "free"
                 ? fmt::format("free, {} tokens", model.free_chunk_tokens.value_or(0))
                 : model.baseline_schedule;
    };
    notes->push_back(
        fmt::format("{}: the baseline's schedule is {}, was {} (each run calibrates "
                    "its own): forward passes of baselines are not compared",
                    name, said(*pair.now), said(*pair.base)));
  }
}

}  // namespace

void CheckSameConfig(const Run& base, const Run& now) {
  Refuse(base, now, ConfigDifferences(base, now));
}

std::vector<std::string> EnvironmentDifferences(const Run& base, const Run& now,
                                                std::span<const char* const> keys) {
  std::vector<std::string> differences;
  for (const char* key : keys) {
    const Json was = base.environment.value(key, Json()), is = now.environment.value(key, Json());
    if (was.is_null() || is != was) {
      differences.push_back(fmt::format("{} is {}, was {}", key, Said(is), Said(was)));
    }
  }
  return differences;
}

void CheckSameMachine(const Run& base, const Run& now) {
  std::vector<std::string> differences = EnvironmentDifferences(base, now, kMachine);
  if (differences.empty()) return;
  differences.insert(differences.begin(), "absolute times need one machine and build");
  Refuse(base, now, differences);
}

std::map<ModelKey, ModelPair> PairModels(const Run& base, const Run& now,
                                         std::vector<std::string>* notes) {
  std::vector<std::string> differences = ConfigDifferences(base, now);
  const std::vector<std::string> elsewhere = EnvironmentDifferences(base, now, kBits);
  if (!elsewhere.empty()) {
    notes->push_back(fmt::format(
        "another machine than BASE's: {}. Outputs depend on it, so tokens were not compared with "
        "BASE's, only with the own run's baseline; and ratios of times move with it",
        fmt::join(elsewhere, ", ")));
  }
  std::map<ModelKey, ModelPair> pairs;
  for (const ModelInfo& model : base.models) {
    const std::string name = fmt::format("model {} ({})", model.name, model.precision);
    const ModelInfo* const other = FindModel(now, model);
    if (other == nullptr) {
      differences.push_back(name + " is not there");
      continue;
    }
    for (const auto field : {&ModelInfo::fingerprint, &ModelInfo::encoder_fingerprint}) {
      if (model.*field == other->*field) continue;
      differences.push_back(fmt::format("{} has {}fingerprint {}, was {}", name,
                                        field == &ModelInfo::fingerprint ? "" : "encoder ",
                                        Said(other->*field), Said(model.*field)));
    }
    ModelPair pair{.base = &model, .now = other};
    pair.same_bits = elsewhere.empty() && model.device == other->device;
    if (elsewhere.empty() && !pair.same_bits) {
      notes->push_back(fmt::format("{} ran on {}, was on {}: tokens were not compared", name,
                                   other->device, model.device));
    }
    pair.same_probe = pair.same_bits || model.probe_exact == other->probe_exact;
    pair.same_cuts = CutAlike(model, *other);
    pair.same_baseline = HaveOneBaseline(model, *other);
    Note(pair, notes);
    pairs.emplace(ModelKey(model.name, model.precision), pair);
  }
  Refuse(base, now, differences);
  return pairs;
}

}  // namespace kvr::report
