#include "kvr/record/run.h"

#include <spdlog/fmt/fmt.h>

#include <set>

#include "fields.h"
#include "kvr/base/error.h"
#include "kvr/base/file.h"

namespace kvr::record {
template <typename Fields, typename T>
requires std::is_same_v<std::remove_const_t<T>, ModelInfo>
void List(const Fields& field, T& model) {
  field("name", model.name, "of the archive");
  field("precision", model.precision, "`fp32`, `bf16` or `int8`");
  field("device", model.device, "where it ran; absent in old runs: `cpu`", MayLack{});
  field("fingerprint", model.fingerprint, "the model fingerprint");
  field("encoder_fingerprint", model.encoder_fingerprint, "the encoder's; null without one");
  field("random_weights", model.random_weights, "true: times count, texts do not");
  field.Group("probe", [&](const auto& inner) {
    inner("exact", model.probe_exact,
          "whether rows did not depend on how they are cut into chunks");
    inner("cuts", model.probe_cuts, "how many were tried");
  });
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
          "of `block_ms` by more than 2 %, else `block`",
          OneOf{kSchedules});
    inner("free_chunk_tokens", model.free_chunk_tokens,
          "the best of four lengths of chunk on the longest prompt (version 1: in the model's "
          "object)");
    inner("block_ms", model.calibration_block_ms,
          "in each of five rounds, after filling, the times to the first token of three test "
          "prompts, those at the quartiles of length, summed, the two schedules in turn. No "
          "comparison uses these times");
    inner("free_ms", model.calibration_free_ms, "the same without the schedule");
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
requires std::is_same_v<std::remove_const_t<T>, Run>
void List(const Fields& field, T& run) {
  field("name", run.name, "the config's name");
  field("config", run.config,
        "the config as written, `--set` applied; what it leaves out has the defaults of "
        "`docs/config_format.md`. The report reads `control_groups`: names of the workloads that "
        "share nothing with the cache");
  field("prompts", run.prompts, "names of the test prompts (2)", MayLack{});
  field("prompts_sha256", run.prompts_sha256,
        "of all prompts' names and texts; a run is resumed with the same ones only");
  field("environment", run.environment,
        "`cpu_model`, `instruction_set` (in use), `threads`, `libtorch_version`, `host`, "
        "`load_average` (at the start), `commit`, `build_type` and whatever else describes the "
        "machine");
  field("models", run.models, "one object per archive, below", MayLack{});
  field.Group("cache", [&](const auto& inner) {
    inner("subfolders", run.cache_subfolders, "of `sweep-cache/` that the run made (2)");
    inner("kept", run.cache_kept, "whether they stay (2)");
  });
  field("fill", run.fill, "one object per codec and cached prompt, below", MayLack{});
  field("started", run.started, "UTC, `2026-01-31T12:34:56Z`; null when not known");
  field("finished", run.finished,
        "the same; null while the run goes on, or when it was broken off");
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
    const std::string contents = ReadFile(path_);
    for (std::size_t begin = 0; begin < contents.size();) {
      const std::size_t newline = contents.find('\n', begin);
      const bool whole = newline != std::string::npos;
      const std::string_view line =
          std::string_view(contents).substr(begin, whole ? newline - begin : std::string::npos);
      begin = whole ? newline + 1 : contents.size();
      AddLine(line, whole);
    }
    Warn();
  }

 private:
  void AddLine(std::string_view line, bool whole) {
    const std::string where = path_.string() + ":" + std::to_string(++number_);
    Json json;
    try {
      json = ParseJson(line, where);
    } catch (const Error& error) {
      if (whole) throw Corrupt(error.what());
      run_->warnings.push_back(where + ": the last line is cut off (" +
                               std::to_string(line.size()) +
                               " bytes) and was left out; its cell did not finish");
      return;
    }
    Cell cell = CellFromJson(json, where);
    if (!prompts_.empty() && (!prompts_.contains(cell.prompt_id) ||
                              !models_.contains(cell.model + "\n" + cell.precision))) {
      if (run_->stray_cells++ == 0) first_stray_ = where;
      return;
    }
    const auto [before, fresh] = lines_.emplace(Identity(cell), number_);
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
  std::size_t number_ = 0;
  std::int64_t repeated_ = 0;
  std::string first_stray_, first_repeated_;
};

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
  return run;
}

std::string DocumentRun() { return DocumentOf<Run>("| `schema` | integer | 2 |\n"); }
std::string DocumentModel() { return DocumentOf<ModelInfo>(); }
std::string DocumentFill() { return DocumentOf<Fill>(); }

}  // namespace kvr::record
