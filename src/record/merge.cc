#include "kvr/record/merge.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <map>
#include <set>
#include <utility>

#include "kvr/base/error.h"

namespace kvr::record {
namespace {

// Of the environment: what is the program, and what is the machine. Everything else (host, load) is
// expected to differ.
constexpr auto kProgram =
    std::to_array<const char*>({"commit", "version", "libtorch_version", "build_type"});
constexpr auto kMachine = std::to_array<const char*>(
    {"cpu_model", "instruction_set", "threads", "kernel", "memory_bytes"});

std::string NameOf(const Run& run) {
  return fmt::format("{} (shard {}/{})", run.label, run.shard->index, run.shard->count);
}

std::string NameOf(const ModelInfo& model) { return model.name + " (" + model.precision + ")"; }

// What is wrong whatever is allowed.
class ShardChecker {
 public:
  explicit ShardChecker(const std::vector<Run>& shards) : shards_(shards) {}

  void Check() {
    if (shards_.empty()) throw InvalidInput("there are no shards to merge");
    for (const Run& run : shards_) {
      CheckOne(run);
      CheckBaselines(run);
    }
  }

 private:
  void CheckOne(const Run& run) {
    const Run& first = shards_.front();
    if (!run.shard) {
      throw InvalidInput(
          run.label + " is no shard: " +
          (run.merged ? "it was merged; merge its shards anew" : "it was made without --shard"));
    }
    if (run.shard->count != first.shard->count) {
      throw InvalidInput(NameOf(run) + " and " + NameOf(first) +
                         " are of sweeps cut into unlike numbers of shards, so they overlap");
    }
    if (run.schema != first.schema) {
      throw Incompatible(fmt::format("{} is of schema {}, {} of {}", NameOf(run), run.schema,
                                     NameOf(first), first.schema));
    }
    Claim(&indices_, std::to_string(run.shard->index), run, "shard");
    for (const std::string& prompt : run.shard->prompts) Claim(&prompts_, prompt, run, "prompt");
    CheckCells(run);
  }

  void CheckCells(const Run& run) {
    const std::set<std::string> own(run.shard->prompts.begin(), run.shard->prompts.end());
    std::int64_t strays = run.stray_cells;
    std::set<std::string> sessions;
    for (const Cell& cell : run.cells) {
      if (!own.contains(cell.prompt_id)) ++strays;
      if (cell.session) sessions.insert(*cell.session);
    }
    if (strays > 0 || std::ssize(run.cells) > run.shard->cells) {
      throw Corrupt(fmt::format("{} has {} cells of {}, and {} of prompts that are not its own",
                                NameOf(run), run.cells.size(), run.shard->cells, strays));
    }
    for (const std::string& session : sessions) Claim(&sessions_, session, run, "session");
  }

  // Notes whose it is. Throws where it is another's.
  static void Claim(std::map<std::string, const Run*>* owners, const std::string& what,
                    const Run& run, const char* kind) {
    const auto [owner, fresh] = owners->emplace(what, &run);
    if (fresh) return;
    throw InvalidInput(fmt::format("{} and {} overlap: {} {} is in both", NameOf(*owner->second),
                                   NameOf(run), kind, what));
  }

  // One model has one baseline in a run.
  void CheckBaselines(const Run& run) {
    for (const ModelInfo& model : run.models) {
      const auto [first, fresh] = models_.emplace(NameOf(model), std::pair(&model, &run));
      if (fresh) continue;
      const auto& [same, other] = first->second;
      if (same->baseline_schedule == model.baseline_schedule &&
          (same->baseline_schedule == "block" ||
           same->free_chunk_tokens == model.free_chunk_tokens)) {
        continue;
      }
      throw Incompatible(NameOf(*other) + " and " + NameOf(run) + " have unlike baselines of " +
                         model.name + "; give all shards the same --baseline");
    }
  }

  const std::vector<Run>& shards_;
  std::map<std::string, const Run*> indices_, prompts_, sessions_;
  std::map<std::string, std::pair<const ModelInfo*, const Run*>> models_;  // the first of a name
};

// Compares shards that should be of one config, program and archives.
class MixtureFinder {
 public:
  explicit MixtureFinder(bool allowed) : allowed_(allowed) {}

  // Throws for a difference to the shards before, unless differences are allowed.
  void Add(const Run& run) {
    const Run& first = first_ == nullptr ? run : *first_;
    first_ = &first;
    std::vector<std::string> inputs, program;
    if (run.name != first.name) inputs.emplace_back("name");
    if (run.config != first.config) inputs.emplace_back("config");
    if (run.prompts != first.prompts || run.prompts_sha256 != first.prompts_sha256) {
      inputs.emplace_back("prompts");
    }
    for (const char* field : kProgram) {
      if (run.environment.value(field, Json()) != first.environment.value(field, Json())) {
        program.emplace_back(field);
      }
    }
    for (const ModelInfo& model : run.models) CompareModel(model, &program);
    if (!allowed_ && !inputs.empty()) throw InvalidInput(Refusal(run, inputs));
    if (!allowed_ && !program.empty()) throw Incompatible(Refusal(run, program));
    mixed_.insert(inputs.begin(), inputs.end());
    mixed_.insert(program.begin(), program.end());
  }

  [[nodiscard]] std::vector<std::string> mixed() const { return {mixed_.begin(), mixed_.end()}; }

 private:
  void CompareModel(const ModelInfo& model, std::vector<std::string>* differ) {
    const ModelInfo& first = *models_.emplace(NameOf(model), &model).first->second;
    const auto compare = [&](bool same, const char* what) {
      if (!same) differ->push_back(NameOf(model) + " " + what);
    };
    compare(first.fingerprint == model.fingerprint, "fingerprint");
    compare(first.encoder_fingerprint == model.encoder_fingerprint, "encoder_fingerprint");
    compare(first.device == model.device, "device");
    compare(first.probe_exact == model.probe_exact, "probe.exact");
  }

  std::string Refusal(const Run& run, const std::vector<std::string>& what) const {
    return fmt::format(
        "{} differs from the shards before it, from {} on, in {}; --allow-mixed "
        "merges them nevertheless",
        NameOf(run), NameOf(*first_), fmt::join(what, ", "));
  }

  const bool allowed_;
  const Run* first_ = nullptr;
  std::map<std::string, const ModelInfo*> models_;
  std::set<std::string> mixed_;
};

// "a, b, c", no more than ten of them.
std::string Some(std::vector<std::string> names) {
  if (names.size() > 10) {
    names.resize(10);
    names.emplace_back("...");
  }
  return fmt::format("{}", fmt::join(names, ", "));
}

// What is missing of the whole, a line each.
std::vector<std::string> Holes(const Run& run) {
  const Merge& merge = *run.merged;
  std::vector<std::string> holes, missing, lost;
  std::set<std::int64_t> indices;
  std::set<std::string> prompts;
  for (const MergedShard& one : merge.shards) {
    indices.insert(one.shard.index);
    prompts.insert(one.shard.prompts.begin(), one.shard.prompts.end());
    if (one.finished && one.found_cells == one.shard.cells) continue;
    holes.push_back(fmt::format("shard {}/{} ({}) has {} of {} cells{}", one.shard.index,
                                merge.count, one.folder, one.found_cells, one.shard.cells,
                                one.finished ? "" : " and is unfinished"));
  }
  const std::int64_t absent = merge.count - std::ssize(merge.shards);
  for (std::int64_t index = 0; index < merge.count && missing.size() <= 10; ++index) {
    if (!indices.contains(index)) missing.push_back(std::to_string(index));
  }
  if (absent > 0) {
    holes.push_back(
        fmt::format("{} of {} shards are missing: {}", absent, merge.count, Some(missing)));
  }
  for (const std::string& prompt : run.prompts) {
    if (!prompts.contains(prompt)) lost.push_back(prompt);
  }
  if (absent == 0 && !lost.empty()) {
    holes.push_back(fmt::format("{} prompts are in no shard: {}", lost.size(), Some(lost)));
  }
  return holes;
}

// The distinct values of one field: the one that all have; the greatest load; texts joined, other
// things listed.
Json JoinedField(const std::string& field, const std::vector<Json>& values) {
  if (values.size() == 1) return values.front();
  const auto all = [&](auto holds) { return std::all_of(values.begin(), values.end(), holds); };
  if (field == "load_average") {
    return *std::max_element(values.begin(), values.end());
  }
  if (!all([](const Json& value) { return value.is_string(); })) return values;
  std::vector<std::string> texts;
  texts.reserve(values.size());
  for (const Json& value : values) texts.push_back(value);
  return fmt::format("{}", fmt::join(texts, "; "));
}

std::vector<Json> Distinct(const std::vector<MergedShard>& shards, const std::string& field) {
  std::vector<Json> values;
  for (const MergedShard& one : shards) {
    const Json value = one.environment.value(field, Json());
    if (std::find(values.begin(), values.end(), value) == values.end()) values.push_back(value);
  }
  return values;
}

Json JoinedEnvironment(const std::vector<MergedShard>& shards) {
  Json joined = Json::object();
  for (const MergedShard& one : shards) {
    for (const auto& [field, value] : one.environment.items()) {
      if (!joined.contains(field)) joined[field] = JoinedField(field, Distinct(shards, field));
    }
  }
  return joined;
}

// Adds a shard's model to the run's, which is the first that was seen of its name.
void AddModel(const ModelInfo& model, std::vector<ModelInfo>* models) {
  const auto same = std::find_if(models->begin(), models->end(), [&](const ModelInfo& one) {
    return one.name == model.name && one.precision == model.precision;
  });
  if (same == models->end()) {
    models->push_back(model);
    return;
  }
  for (auto times : {&ModelInfo::calibration_block_ms, &ModelInfo::calibration_free_ms}) {
    ((*same).*times).insert(((*same).*times).end(), (model.*times).begin(), (model.*times).end());
  }
  if (same->free_chunk_tokens != model.free_chunk_tokens) same->free_chunk_tokens.reset();
}

void Add(Run* shard, Run* all) {
  all->merged->shards.push_back({.folder = shard->label,
                                 .shard = *shard->shard,
                                 .found_cells = std::ssize(shard->cells),
                                 .environment = shard->environment,
                                 .started = shard->started,
                                 .finished = shard->finished});
  if (all->prompts != shard->prompts) {
    const std::set<std::string> known(all->prompts.begin(), all->prompts.end());
    std::copy_if(shard->prompts.begin(), shard->prompts.end(), std::back_inserter(all->prompts),
                 [&](const std::string& prompt) { return !known.contains(prompt); });
  }
  for (const ModelInfo& model : shard->models) AddModel(model, &all->models);
  std::set<std::string> filled;
  const auto key = [](const Fill& fill) {
    return DumpLine({fill.model, fill.precision, fill.entry, fill.codec.value_or("fp32")});
  };
  for (const Fill& fill : all->fill) filled.insert(key(fill));
  std::copy_if(shard->fill.begin(), shard->fill.end(), std::back_inserter(all->fill),
               [&](const Fill& fill) { return !filled.contains(key(fill)); });
  if (shard->started && (!all->started || *shard->started < *all->started)) {
    all->started = shard->started;
  }
  if (shard->finished && (!all->finished || *shard->finished > *all->finished)) {
    all->finished = shard->finished;
  }
  std::move(shard->cells.begin(), shard->cells.end(), std::back_inserter(all->cells));
  all->warnings.insert(all->warnings.end(), shard->warnings.begin(), shard->warnings.end());
}

}  // namespace

Run MergeShards(std::vector<Run> shards, const MergeOptions& options) {
  ShardChecker(shards).Check();
  std::sort(shards.begin(), shards.end(),
            [](const Run& a, const Run& b) { return a.shard->index < b.shard->index; });
  Run all;
  all.name = shards.front().name;
  all.label = all.name;
  all.schema = shards.front().schema;
  all.config = shards.front().config;
  all.control_groups = shards.front().control_groups;
  all.prompts_sha256 = shards.front().prompts_sha256;
  all.merged.emplace().count = shards.front().shard->count;
  MixtureFinder mixture(options.allow_mixed);
  for (const Run& shard : shards) mixture.Add(shard);
  all.merged->mixed = mixture.mixed();
  for (Run& shard : shards) Add(&shard, &all);
  all.environment = JoinedEnvironment(all.merged->shards);
  const std::vector<std::string> holes = Holes(all);
  if (holes.empty()) return all;
  if (!options.allow_holes) {
    throw InvalidInput(
        fmt::format("{}; finish them (--resume) first, or --allow-holes merges what is there",
                    fmt::join(holes, "; ")));
  }
  all.finished.reset();
  return all;
}

std::vector<std::string> DescribeMerge(const Run& run) {
  std::vector<std::string> lines;
  if (!run.merged) return lines;
  for (const std::string& hole : Holes(run)) lines.push_back(run.label + ": " + hole);
  if (!run.merged->mixed.empty()) {
    lines.push_back(fmt::format("{}: shards of unlike {} were merged", run.label,
                                fmt::join(run.merged->mixed, ", ")));
  }
  std::vector<std::string> unlike;
  for (const char* field : kMachine) {
    const std::vector<Json> values = Distinct(run.merged->shards, field);
    if (values.size() > 1) {
      std::vector<std::string> texts;
      texts.reserve(values.size());
      for (const Json& value : values) {
        texts.push_back(value.is_string() ? value.get<std::string>() : DumpLine(value));
      }
      unlike.push_back(fmt::format("{} ({})", field, Some(texts)));
    }
  }
  if (!unlike.empty()) {
    lines.push_back(fmt::format(
        "{}: its shards ran on unlike machines: {}; a prompt's ratio is of one machine, but means "
        "are over all of them",
        run.label, fmt::join(unlike, ", ")));
  }
  if (Distinct(run.merged->shards, "cpu_model").size() > 1 ||
      Distinct(run.merged->shards, "instruction_set").size() > 1) {
    lines.push_back(run.label +
                    ": shards on unlike CPUs never share a cache: its key names the CPU and its "
                    "instruction set");
  }
  return lines;
}

}  // namespace kvr::record
