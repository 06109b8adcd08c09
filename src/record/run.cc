#include "kvr/record/run.h"

#include <spdlog/fmt/fmt.h>

#include <array>
#include <set>
#include <sstream>
#include <string_view>

#include "fields.h"
#include "kvr/base/error.h"
#include "kvr/base/file.h"
#include "lines.h"

namespace kvr::record {
namespace {

constexpr auto kStops = std::to_array<std::string_view>({"fixed", "width", "most"});

}  // namespace

template <typename Fields, typename T>
requires std::is_same_v<std::remove_const_t<T>, ModelInfo>
void List(const Fields& field, T& model) {
  field("name", model.name, "of the archive");
  field("precision", model.precision, "`fp32`, `bf16`, `int8` or `source`");
  field("device", model.device, "where it ran; absent in old runs: `cpu`", MayLack{});
  field("fingerprint", model.fingerprint, "the model fingerprint");
  field("encoder_fingerprint", model.encoder_fingerprint, "the encoder's; null without one");
  field("random_weights", model.random_weights, "true: times count, texts do not");
  field.Group("probe", [&](const auto& inner) {
    inner("exact", model.probe_exact,
          "whether rows did not depend on how they are cut into chunks");
    inner("cuts", model.probe_cuts, "how many were tried");
  });
  field("context_tokens", model.context_tokens,
        "the most that a prompt and its reply may have (2)");
  field("kv_bytes_per_token", model.kv_bytes_per_token, "in a buffer");
  field("stored_bytes_per_token", model.stored_bytes_per_token, "in files: by codec",
        MayLack{.or_null = true});
  field("cache_keys", model.cache_keys,
        "by codec: what `docs/cache_format.md` calls the cache key's JSON",
        MayLack{.or_null = true});
  // The one baseline; version 1 has no more of it than the free one's length of chunk.
  field.Group("baseline", [&](const auto& inner) {
    inner("schedule", model.baseline_schedule,
          "the run's one baseline (2): `free` where the median of `free_ms` is smaller than that "
          "of `block_ms` by more than 2 %, else `block`; or what the user gave",
          OneOf{kSchedules});
    inner("given", model.baseline_given,
          "true: `--baseline` gave it, or `block` because the run is a shard; the times below did "
          "not choose (2)",
          MayLack{});
    inner("free_chunk_tokens", model.free_chunk_tokens,
          "the best of four lengths of chunk on the longest prompt, or the given one; null where "
          "merged shards found unlike ones (version 1: in the model's object)");
    inner("block_ms", model.calibration_block_ms,
          "in each of five rounds, after filling, the times to the first token of three test "
          "prompts, those at the quartiles of length, summed, the two schedules in turn. No "
          "comparison uses these times");
    inner("free_ms", model.calibration_free_ms, "the same without the schedule");
  });
  field.Group("repetitions", [&](const auto& inner) {
    auto& own = model.repetitions;
    inner("rounds", own.rounds, "that ran; null while they do, and in runs from before (2)");
    inner("stopped_by", own.stopped_by,
          "`fixed`: the config gives their number; `width`: `width` was `wanted_width` or less; "
          "`most`: it was not, and the config allows no more (2)",
          OneOf{kStops});
    inner("wanted_width", own.wanted_width,
          "the config's `until_width`; null where it has none (2)");
    inner("width", own.width,
          "of the 95 % interval of the first way of reuse's TTFT speedup over all but the control "
          "groups, high over low less 1, as far as the noise among rounds makes it "
          "(`docs/statistics.md`); null for fewer than two rounds (2)");
    inner("interval_width", own.interval_width,
          "of the whole interval, of which how prompts differ is a part; null for fewer than three "
          "clusters (2)");
  });
}

template <typename Fields, typename T>
requires std::is_same_v<std::remove_const_t<T>, Fill>
void List(const Fields& field, T& fill) {
  field("model", fill.model, "as in `models`");
  field("precision", fill.precision, "as in `models`");
  field("entry", fill.entry, "name of the cached prompt");
  field("codec", fill.codec, "of the cache; null: `fp32`");
  field("tokens", fill.tokens, "of the entry");
  field("prefill_ms", fill.prefill_ms, "computing it");
  field("save_ms", fill.save_ms,
        "the rest of storing it: embedding it, writing it durably; as in `kvr run --json` and "
        "`kvr cache add --json`");
  field("bytes", fill.bytes, "written");
  field("new_blocks", fill.new_blocks, "written");
  field("shared_blocks", fill.shared_blocks, "stored before by another entry");
}

template <typename Fields, typename T>
requires std::is_same_v<std::remove_const_t<T>, ShardInfo>
void List(const Fields& field, T& shard) {
  field("index", shard.index, "from 0");
  field("count", shard.count, "of the shards that the sweep is cut into");
  field("prompts", shard.prompts, "names of this shard's test prompts, in the config's order");
  field("cells", shard.cells, "how many it has when it is finished");
}

template <typename Fields, typename T>
requires std::is_same_v<std::remove_const_t<T>, MergedShard>
void List(const Fields& field, T& merged) {
  field("folder", merged.folder, "its config's name and its folder's");
  field("shard", merged.shard, "as in its own run.json");
  field("found_cells", merged.found_cells, "how many it had");
  field("environment", merged.environment, "its own");
  field("started", merged.started, "its own");
  field("finished", merged.finished, "its own; null: it was broken off");
}

template <typename Fields, typename T>
requires std::is_same_v<std::remove_const_t<T>, Merge>
void List(const Fields& field, T& merge) {
  field("count", merge.count, "of the shards that the sweep was cut into");
  field("shards", merge.shards, "those that were merged, by index: objects, below");
  field("mixed", merge.mixed, "what differed between them and was let pass by `--allow-mixed`");
}

template <typename Fields, typename T>
requires std::is_same_v<std::remove_const_t<T>, Run>
void List(const Fields& field, T& run) {
  field("name", run.name, "the config's name");
  field("config", run.config,
        "the config as written, `--set` applied; what it leaves out has the defaults of "
        "`docs/config_format.md`. The report reads `control_groups`: names of the workloads that "
        "share nothing with the cache");
  field("config_in_full", run.config_in_full,
        "every setting with the value that was used, and the ways of reuse as `reuses`; of prompts "
        "listed in the config the names alone (2)",
        MayLack{.or_null = true});
  field("prompts", run.prompts, "names of the test prompts (2)", MayLack{});
  field("prompts_sha256", run.prompts_sha256,
        "of all prompts' names and texts; a run is resumed with the same ones only");
  field("environment", run.environment,
        "the machine, the program and its build; what is not known is null: below. Of a merged "
        "run: what differs between its shards, joined by \"; \", or as an "
        "array where it is no text; the greatest load");
  field("models", run.models, "one object per archive, below", MayLack{});
  field.Group("cache", [&](const auto& inner) {
    inner("subfolders", run.cache_subfolders, "of `sweep-cache/` that the run made (2)");
    inner("kept", run.cache_kept, "whether they stay (2)");
  });
  field("fill", run.fill, "one object per codec and cached prompt, below", MayLack{});
  field("started", run.started, "UTC, `2026-01-31T12:34:56Z`; null when not known");
  field("finished", run.finished,
        "the same; null while the run goes on, or when it was broken off");
  field("shard", run.shard,
        "the part of the config's cells that the run is: an object, below; null: all of them (2)");
  field("merged", run.merged,
        "what `kvr merge` made it of: an object, below; null where one sweep made it (2)");
}

namespace {

// Where version 1 has the free baseline's length of chunk.
void ReadOldBaselines(const Json& json, const std::string& where, Run* run) {
  const auto models = json.find("models");
  for (std::size_t i = 0; i < run->models.size(); ++i) {
    const Json& model = (*models)[i];
    if (const auto baseline = model.find("baseline");
        baseline == model.end() || baseline->is_null()) {
      Reader(model, where + ": models[" + std::to_string(i) + "]")(
          "free_chunk_tokens", run->models[i].free_chunk_tokens);
    }
  }
}

}  // namespace

Run RunFromJson(const Json& json, const std::string& where) {
  const Reader field(json, where);
  field.Schema();
  Run run;
  field("schema", run.schema);
  List(field, run);
  ReadOldBaselines(json, where, &run);
  for (const std::string& name : run.cache_subfolders) {
    const bool hash =
        name.size() == 64 && name.find_first_not_of("0123456789abcdef") == std::string::npos;
    if (!hash) field.Fail("cache: field \"subfolders\" holds \"" + name + "\", no cache key");
  }
  if (run.shard && run.shard->index >= run.shard->count) {
    field.Fail(
        fmt::format("shard {} of {}, expected an index below", run.shard->index, run.shard->count));
  }
  if (const auto groups = run.config.find("control_groups"); groups != run.config.end()) {
    // As in a config: one name may stand without its brackets.
    for (const Json& group : groups->is_array() ? *groups : Json::array({*groups})) {
      if (!group.is_string()) field.Fail("config.control_groups is not an array of names");
      run.control_groups.push_back(group.get<std::string>());
    }
  }
  return run;
}

namespace {

Json ReadDescriptionFile(const std::filesystem::path& folder) {
  const std::filesystem::path description = folder / "run.json";
  if (std::filesystem::is_directory(folder) && !std::filesystem::exists(description)) {
    const std::filesystem::path latest = folder / "latest";
    throw NotFound(folder.string() + " is no run's folder: it has no run.json" +
                   (std::filesystem::exists(latest / "run.json")
                        ? "; its last run is " + latest.string()
                        : std::string("; kvr sweep says where it wrote")));
  }
  const std::string text = ReadFile(description);
  try {
    return ParseJson(text, description.string());
  } catch (const Error& error) {
    throw Corrupt(error.what());
  }
}

// Adds the lines of cells.jsonl to the run, but for those that its prompts and models do not allow,
// and those that were there before.
class CellReader {
 public:
  CellReader(const std::filesystem::path& path, Run* run)
      : path_(path), run_(run), prompts_(run->prompts.begin(), run->prompts.end()) {
    for (const ModelInfo& model : run->models) models_.insert(model.name + "\n" + model.precision);
  }

  void Read() {
    ForEachLine(path_, "cell", &run_->warnings,
                [&](const Json& json, const std::string& where, std::size_t number) {
                  AddCell(json, where, number);
                });
    Warn();
  }

 private:
  void AddCell(const Json& json, const std::string& where, std::size_t number) {
    Cell cell = CellFromJson(json, where);
    if (!prompts_.empty() && (!prompts_.contains(cell.prompt_id) ||
                              !models_.contains(cell.model + "\n" + cell.precision))) {
      if (run_->stray_cells++ == 0) first_stray_ = where;
      return;
    }
    const auto [before, fresh] = lines_.emplace(Identity(cell), number);
    if (fresh) {
      run_->cells.push_back(std::move(cell));
    } else if (repeated_++ == 0) {
      first_repeated_ = where + " repeats the cell of line " + std::to_string(before->second);
    }
  }

  void Warn() {
    if (run_->stray_cells > 0) {
      run_->warnings.push_back(
          fmt::format("{} cells are of a model or prompt that the run does not have and were left "
                      "out; the first: {}",
                      run_->stray_cells, first_stray_));
    }
    if (repeated_ > 0) {
      run_->warnings.push_back(
          fmt::format("{} cells repeat an earlier line's and were left out; the first: {}",
                      repeated_, first_repeated_));
    }
  }

  const std::filesystem::path path_;
  Run* const run_;
  std::set<std::string> prompts_, models_;
  std::map<std::string, std::size_t> lines_;  // of each cell, by its identity
  std::int64_t repeated_ = 0;
  std::string first_stray_, first_repeated_;
};

// Written by one rename, it is whole or absent.
std::vector<TraceRow> ReadTrace(const std::filesystem::path& path) {
  std::vector<TraceRow> rows;
  if (!std::filesystem::exists(path)) return rows;
  std::istringstream lines(ReadFile(path));
  for (std::string line; std::getline(lines, line);) {
    const std::string where = fmt::format("{}:{}", path.string(), rows.size() + 1);
    Json json;
    try {
      json = ParseJson(line, where);
    } catch (const Error& error) {
      throw Corrupt(error.what());
    }
    rows.push_back(TraceRowFromJson(json, where));
  }
  return rows;
}

}  // namespace

Json ToJson(const Run& run) {
  Json json = {{"schema", run.schema}};
  List(Writer(json), run);
  return json;
}

void CheckResumes(const Run& before, const Run& now, const std::string& where) {
  if (before.schema != now.schema) {
    throw Incompatible(where + " was begun by another version of this program; start a new run");
  }
  if (before.config != now.config) {
    throw InvalidInput(where + " was begun with another config; it can't be resumed with this one");
  }
  if (before.merged) throw InvalidInput(where + " was merged of shards; resume those");
  if (before.shard != now.shard) {
    const auto name = [](const Run& run) {
      return run.shard ? fmt::format("shard {}/{}", run.shard->index, run.shard->count)
                       : std::string("a whole run");
    };
    throw InvalidInput(where + " was begun as " + name(before) + ", this is " + name(now));
  }
  if (before.prompts_sha256 != now.prompts_sha256) {
    throw InvalidInput(where +
                       " was begun with other prompts: the files have changed; start a new run");
  }
  for (const char* field :
       {"cpu_model", "instruction_set", "threads", "libtorch_version", "commit"}) {
    const Json then = before.environment.value(field, Json());
    if (then != now.environment.at(field)) {
      throw Incompatible(where + " was begun with " + field + " " + DumpLine(then) + ", this is " +
                         DumpLine(now.environment.at(field)) + "; start a new run");
    }
  }
}

Run ReadRun(const std::filesystem::path& folder) {
  Run run = RunFromJson(ReadDescriptionFile(folder), (folder / "run.json").string());
  run.label = run.name + "/" + std::filesystem::canonical(folder).filename().string();
  CellReader(folder / "cells.jsonl", &run).Read();
  ReadLookups(folder / "lookups.jsonl", &run);
  run.trace = ReadTrace(folder / "trace.jsonl");
  return run;
}

std::string DocumentRun() { return DocumentOf<Run>("| `schema` | integer | 2 |\n"); }
std::string DocumentModel() { return DocumentOf<ModelInfo>(); }
std::string DocumentFill() { return DocumentOf<Fill>(); }
std::string DocumentShard() { return DocumentOf<ShardInfo>(); }
std::string DocumentMerge() { return DocumentOf<Merge>(); }
std::string DocumentMergedShard() { return DocumentOf<MergedShard>(); }

}  // namespace kvr::record
