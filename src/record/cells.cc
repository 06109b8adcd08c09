#include "kvr/record/cells.h"

#include <algorithm>
#include <initializer_list>
#include <limits>
#include <set>
#include <string_view>
#include <type_traits>

#include "kvr/base/error.h"
#include "kvr/base/file.h"

namespace kvr::record {
namespace {

// Takes fields out of an object. Stricter than Json::get, which turns -1 into 2^64 - 1 and 1.5
// into 1.
class FieldReader {
 public:
  FieldReader(const Json& object, std::string where) : object_(object), where_(std::move(where)) {
    if (!object.is_object()) Fail(std::string("found ") + object.type_name() + ", expected object");
  }

  // An optional member may be null or absent.
  template <typename T>
  void operator()(const char* key, std::optional<T>& value) const {
    const auto found = object_.find(key);
    value.reset();
    if (found != object_.end() && !found->is_null()) Read(*found, key, value.emplace());
  }
  template <typename T>
  void operator()(const char* key, T& value) const {
    const auto found = object_.find(key);
    if (found == object_.end()) Fail(std::string("field \"") + key + "\" is missing");
    Read(*found, key, value);
  }

  [[noreturn]] void Fail(const std::string& what) const { throw Corrupt(where_ + ": " + what); }

  // Throws unless the field's `value` is one of `allowed`.
  void OneOf(const char* key, const std::string& value,
             std::initializer_list<std::string_view> allowed) const {
    if (std::find(allowed.begin(), allowed.end(), value) != allowed.end()) return;
    std::string list;
    for (const std::string_view word : allowed) {
      list.append(list.empty() ? "" : ", ").append(word);
    }
    Fail(std::string("field \"") + key + "\" is \"" + value + "\", expected one of " + list);
  }

  void Schema() const {
    std::int64_t schema = 0;
    (*this)("schema", schema);
    if (schema > kResultsSchema) {
      throw Incompatible(where_ + ": schema " + std::to_string(schema) +
                         ", but this program reads up to " + std::to_string(kResultsSchema) +
                         "; use the kvr that wrote it, or a newer one");
    }
    if (schema < 1) Fail("schema " + std::to_string(schema) + ", expected 1 or more");
  }

 private:
  template <typename T>
  void Read(const Json& json, const char* key, T& value) const {
    if constexpr (std::is_same_v<T, bool>) {
      Expect(json.is_boolean(), json, key, "a boolean");
      value = json.get<bool>();
    } else if constexpr (std::is_same_v<T, std::string>) {
      Expect(json.is_string(), json, key, "a string");
      value = json.get<std::string>();
    } else if constexpr (std::is_same_v<T, Json>) {
      Expect(json.is_object(), json, key, "an object");
      value = json;
    } else if constexpr (std::is_same_v<T, double>) {
      Expect(json.is_number(), json, key, "a number");
      value = json.get<double>();
    } else if constexpr (std::is_same_v<T, std::int64_t>) {
      // Above the limit it is no count of anything here, and sums over cells stay in 63 bits.
      constexpr std::int64_t kLimit = std::int64_t{1} << 40;
      value = json.is_number_integer() ? json.get<std::int64_t>() : -1;
      Expect(value >= 0 && value <= kLimit, json, key, "an integer from 0 to 2^40");
    } else if constexpr (std::is_same_v<T, std::uint64_t>) {
      const bool negative =
          !json.is_number_unsigned() && json.is_number_integer() && json.get<std::int64_t>() < 0;
      Expect(json.is_number_integer() && !negative, json, key, "an integer from 0 to 2^64 - 1");
      value = json.get<std::uint64_t>();
    } else if constexpr (std::is_same_v<T, std::vector<double>>) {
      Expect(json.is_array(), json, key, "an array of numbers");
      value.clear();
      for (const Json& item : json) Read(item, key, value.emplace_back());
    } else if constexpr (std::is_same_v<T, std::vector<std::string>>) {
      Expect(json.is_array(), json, key, "an array of strings");
      value.clear();
      for (const Json& item : json) Read(item, key, value.emplace_back());
    } else if constexpr (std::is_same_v<T, std::map<std::int64_t, double>>) {
      Expect(json.is_object(), json, key, "an object of numbers by counts");
      value.clear();
      for (const auto& [name, number] : json.items()) {
        const bool digits =
            name.size() <= 9 && name.find_first_not_of("0123456789") == std::string::npos;
        Expect(digits && name[0] != '0', name, key, "an object of numbers by counts");
        Read(number, key, value[std::stoll(name)]);
      }
    } else if constexpr (std::is_same_v<T, Fidelity>) {
      Visit(FieldReader(json, where_ + ": " + key), value);
    } else {
      static_assert(std::is_same_v<T, Tokens>);
      Expect(json.is_array(), json, key, "an array of token ids");
      value.clear();
      for (const Json& id : json) {
        const std::int64_t wide = id.is_number_integer() ? id.get<std::int64_t>() : -1;
        Expect(wide >= 0 && wide <= std::numeric_limits<Token>::max(), id, key, "token ids");
        value.push_back(static_cast<Token>(wide));
      }
    }
  }

  void Expect(bool good, const Json& json, const char* key, const char* expected) const {
    if (good) return;
    Fail(std::string("field \"") + key + "\" is " + DumpLine(json).substr(0, 60) + ", expected " +
         expected);
  }

  const Json& object_;
  std::string where_;
};

// Puts fields into an object.
class FieldWriter {
 public:
  explicit FieldWriter(Json& object) : object_(object) {}
  template <typename T>
  void operator()(const char* key, const std::optional<T>& value) const {
    object_[key] = nullptr;
    if (value) (*this)(key, *value);
  }
  template <typename T>
  void operator()(const char* key, const T& value) const {
    if constexpr (std::is_same_v<T, Fidelity>) {
      object_[key] = Json::object();
      Visit(FieldWriter(object_[key]), value);
    } else if constexpr (std::is_same_v<T, std::map<std::int64_t, double>>) {
      object_[key] = Json::object();
      for (const auto& [count, number] : value) object_[key][std::to_string(count)] = number;
    } else {
      object_[key] = value;
    }
  }

 private:
  Json& object_;
};

// The field lists, for reading and for writing. `T` is the struct, const or not.
template <typename Archive, typename T>
requires std::is_same_v<std::remove_const_t<T>, Fidelity>
void Visit(const Archive& field, T& fidelity) {
  field("exact", fidelity.exact);
  field("compared_tokens", fidelity.compared_tokens);
  field("first_divergence", fidelity.first_divergence);
  field("max_abs_logit_diff", fidelity.max_abs_logit_diff);
  field("kl_mean", fidelity.kl_mean);
  field("kl_max", fidelity.kl_max);
  field("top1", fidelity.top1);
  field("cosine", fidelity.cosine);
  field("rouge_l", fidelity.rouge_l);
  field("semantic", fidelity.semantic);
}

template <typename Archive, typename T>
requires std::is_same_v<std::remove_const_t<T>, Cell>
void Visit(const Archive& field, T& cell) {
  field("model", cell.model);
  field("precision", cell.precision);
  field("workload", cell.workload);
  field("prompt_id", cell.prompt_id);
  field("repetition", cell.repetition);
  field("arm", cell.arm);
  field("schedule", cell.schedule);
  field("control", cell.control);
  field("policy", cell.policy);
  field("match", cell.match);
  field("codec", cell.codec);
  field("candidates", cell.candidates);
  field("seed", cell.seed);
  field("cached_parent", cell.cached_parent);
  field("outcome", cell.outcome);
  field("limited_by", cell.limited_by);
  field("exact_claimed", cell.exact_claimed);
  field("prompt_tokens", cell.prompt_tokens);
  field("reuse_depth", cell.reuse_depth);
  field("available_depth", cell.available_depth);
  field("similarity", cell.similarity);
  field("entry", cell.entry);
  field("tier", cell.tier);
  field("page_cache", cell.page_cache);
  field("restored_bytes", cell.restored_bytes);
  field("embed_ms", cell.embed_ms);
  field("lookup_ms", cell.lookup_ms);
  field("restore_ms", cell.restore_ms);
  field("prefill_ms", cell.prefill_ms);
  field("ttft_ms", cell.ttft_ms);
  field("decode_ms", cell.decode_ms);
  field("total_ms", cell.total_ms);
  field("save_ms", cell.save_ms);
  field("totals_ms", cell.totals_ms);
  field("wall_ms", cell.wall_ms);
  field("other_cpu_ms", cell.other_cpu_ms);
  field("steal_ms", cell.steal_ms);
  field("new_tokens", cell.new_tokens);
  field("full", cell.full);
  field("tokens", cell.tokens);
  field("text", cell.text);
  field("truncated_tokens", cell.truncated_tokens);
  field("fidelity", cell.fidelity);
}

void ReadModels(const FieldReader& run, const Json& json, const std::string& where, Run& result) {
  const auto models = json.find("models");
  if (models == json.end()) return;
  if (!models->is_array()) run.Fail("field \"models\" is not an array");
  for (const Json& item : *models) {
    const FieldReader field(item, where + ": models[" + std::to_string(result.models.size()) + "]");
    ModelInfo model;
    field("name", model.name);
    field("precision", model.precision);
    field("random_weights", model.random_weights);
    if (item.contains("device")) field("device", model.device);  // runs from before have none
    field("fingerprint", model.fingerprint);
    field("encoder_fingerprint", model.encoder_fingerprint);
    field("kv_bytes_per_token", model.kv_bytes_per_token);
    std::optional<Json> stored;
    field("stored_bytes_per_token", stored);
    if (stored) {
      const FieldReader codec_field(*stored, where + ": stored_bytes_per_token of " + model.name);
      for (const auto& [codec, bytes] : stored->items()) {
        codec_field(codec.c_str(), model.stored_bytes_per_token[codec]);
      }
    }
    std::optional<Json> probe;
    field("probe", probe);
    if (probe) {
      const FieldReader probe_field(*probe, where + ": probe of " + model.name);
      probe_field("exact", model.probe_exact);
      probe_field("cuts", model.probe_cuts);
    }
    std::optional<Json> baseline;
    field("baseline", baseline);
    if (baseline) {
      const FieldReader baseline_field(*baseline, where + ": baseline of " + model.name);
      baseline_field("schedule", model.baseline_schedule);
      baseline_field.OneOf("schedule", model.baseline_schedule, {"block", "free"});
      baseline_field("free_chunk_tokens", model.free_chunk_tokens);
      baseline_field("block_ms", model.calibration_block_ms);
      baseline_field("free_ms", model.calibration_free_ms);
    } else {
      field("free_chunk_tokens", model.free_chunk_tokens);  // where schema 1 has it
    }
    result.models.push_back(std::move(model));
  }
}

void ReadFill(const FieldReader& run, const Json& json, const std::string& where, Run& result) {
  const auto fills = json.find("fill");
  if (fills == json.end()) return;
  if (!fills->is_array()) run.Fail("field \"fill\" is not an array");
  for (const Json& item : *fills) {
    const FieldReader field(item, where + ": fill[" + std::to_string(result.fill.size()) + "]");
    Fill fill;
    field("model", fill.model);
    field("precision", fill.precision);
    field("entry", fill.entry);
    field("codec", fill.codec);
    field("tokens", fill.tokens);
    field("prefill_ms", fill.prefill_ms);
    field("save_ms", fill.save_ms);
    field("bytes", fill.bytes);
    field("new_blocks", fill.new_blocks);
    field("shared_blocks", fill.shared_blocks);
    result.fill.push_back(std::move(fill));
  }
}

// run.json.
Run ReadDescription(const Json& json, const std::string& where) {
  const FieldReader field(json, where);
  field.Schema();
  Run run;
  field("schema", run.schema);
  field("prompts_sha256", run.prompts_sha256);
  if (json.contains("prompts")) field("prompts", run.prompts);
  std::optional<Json> cache;
  field("cache", cache);
  if (cache) {
    const FieldReader cache_field(*cache, where + ": cache");
    cache_field("kept", run.cache_kept);
    cache_field("subfolders", run.cache_subfolders);
    for (const std::string& name : run.cache_subfolders) {
      const bool hash =
          name.size() == 64 && name.find_first_not_of("0123456789abcdef") == std::string::npos;
      if (!hash) cache_field.Fail("field \"subfolders\" holds \"" + name + "\", no cache key");
    }
  }
  field("name", run.name);
  field("environment", run.environment);
  std::optional<std::string> started;
  field("started", started);
  run.started = started.value_or("");
  field("finished", run.finished);
  field("config", run.config);
  if (const auto groups = run.config.find("control_groups"); groups != run.config.end()) {
    // As in a config: one name may stand without its brackets.
    for (const Json& group : groups->is_array() ? *groups : Json::array({*groups})) {
      if (!group.is_string()) field.Fail("config.control_groups is not an array of names");
      run.control_groups.push_back(group.get<std::string>());
    }
  }
  ReadModels(field, json, where, run);
  ReadFill(field, json, where, run);
  return run;
}

}  // namespace

std::optional<double> Cell::DecodeMsPerToken() const {
  if (!decode_ms || new_tokens < 2) return std::nullopt;
  return *decode_ms / static_cast<double>(new_tokens - 1);
}

std::string Identity(const Cell& cell) {
  return cell.model + "\n" + cell.precision + "\n" + cell.prompt_id + "\n" +
         std::to_string(cell.repetition) + "\n" + cell.arm + "\n" + cell.schedule + "\n" +
         (cell.control ? "control" : "") + "\n" + cell.policy + "\n" + cell.match.value_or("") +
         "\n" + cell.codec.value_or("") + "\n" +
         (cell.candidates ? std::to_string(*cell.candidates) : "");
}

Json ToJson(const Fidelity& fidelity) {
  Json json = Json::object();
  Visit(FieldWriter(json), fidelity);
  return json;
}

Json ToJson(const Cell& cell) {
  Json json = {{"schema", kResultsSchema}};
  Visit(FieldWriter(json), cell);
  return json;
}

Cell CellFromJson(const Json& json, const std::string& where) {
  const FieldReader field(json, where);
  field.Schema();
  Cell cell;
  Visit(field, cell);
  field.OneOf("arm", cell.arm, {"baseline", "recycled"});
  field.OneOf("schedule", cell.schedule, {"block", "free"});
  field.OneOf("outcome", cell.outcome, {"hit", "miss", "off"});
  if (cell.reuse_depth > 0 && cell.reuse_depth >= cell.prompt_tokens) {
    field.Fail("reuse_depth " + std::to_string(cell.reuse_depth) + " of a prompt of " +
               std::to_string(cell.prompt_tokens) + " tokens, expected at least one less");
  }
  if (cell.hit() != (cell.reuse_depth > 0)) {
    field.Fail("outcome \"" + cell.outcome + "\" with reuse_depth " +
               std::to_string(cell.reuse_depth));
  }
  for (const std::optional<double>& ms :
       {cell.embed_ms, cell.lookup_ms, cell.restore_ms, std::optional(cell.prefill_ms),
        std::optional(cell.ttft_ms), cell.decode_ms, cell.total_ms, cell.save_ms, cell.wall_ms,
        cell.other_cpu_ms, cell.steal_ms}) {
    if (ms && *ms < 0) field.Fail("a time of " + std::to_string(*ms) + " ms");
  }
  for (const auto& [count, ms] : cell.totals_ms.value_or(std::map<std::int64_t, double>())) {
    if (ms < 0 || count > cell.new_tokens) {
      field.Fail("totals_ms of " + std::to_string(ms) + " ms for " + std::to_string(count) +
                 " of " + std::to_string(cell.new_tokens) + " tokens");
    }
  }
  return cell;
}

Run ReadRun(const std::filesystem::path& folder) {
  const std::filesystem::path description = folder / "run.json";
  if (std::filesystem::is_directory(folder) && !std::filesystem::exists(description)) {
    const std::filesystem::path latest = folder / "latest";
    throw NotFound(folder.string() + " is no run's folder: it has no run.json" +
                   (std::filesystem::exists(latest / "run.json")
                        ? "; its last run is " + latest.string()
                        : std::string("; kvr sweep says where it wrote")));
  }
  const std::string description_text = ReadFile(description);
  Json json;
  try {
    json = ParseJson(description_text, description.string());
  } catch (const Error& error) {
    throw Corrupt(error.what());
  }
  Run run = ReadDescription(json, description.string());
  std::filesystem::path leaf = std::filesystem::canonical(folder).filename();
  run.label = run.name + "/" + leaf.string();

  std::set<std::string> models;
  for (const ModelInfo& model : run.models) models.insert(model.name + "\n" + model.precision);
  const std::set<std::string> prompts(run.prompts.begin(), run.prompts.end());
  std::map<std::string, std::size_t> lines;  // of each cell, by its identity

  const std::filesystem::path path = folder / "cells.jsonl";
  const std::string contents = ReadFile(path);
  std::size_t number = 0;
  std::int64_t repeated = 0;
  std::string first_stray, first_repeated;
  for (std::size_t begin = 0; begin < contents.size();) {
    const std::size_t newline = contents.find('\n', begin);
    const bool whole = newline != std::string::npos;
    const std::string_view line =
        std::string_view(contents).substr(begin, whole ? newline - begin : std::string::npos);
    begin = whole ? newline + 1 : contents.size();
    const std::string where = path.string() + ":" + std::to_string(++number);
    Json cell;
    try {
      cell = ParseJson(line, where);
    } catch (const Error& error) {
      if (whole) throw Corrupt(error.what());
      run.warnings.push_back(where + ": the last line is cut off (" + std::to_string(line.size()) +
                             " bytes) and was left out; its cell did not finish");
      break;
    }
    Cell read = CellFromJson(cell, where);
    if (!prompts.empty() && (!prompts.contains(read.prompt_id) ||
                             !models.contains(read.model + "\n" + read.precision))) {
      if (run.stray_cells++ == 0) first_stray = where;
      continue;
    }
    const auto [before, fresh] = lines.emplace(Identity(read), number);
    if (!fresh) {
      if (repeated++ == 0) {
        first_repeated = where + " repeats the cell of line " + std::to_string(before->second);
      }
      continue;
    }
    run.cells.push_back(std::move(read));
  }
  if (run.stray_cells > 0) {
    run.warnings.push_back(std::to_string(run.stray_cells) +
                           " cells are of a model or prompt that the run does not have and were "
                           "left out; the first: " +
                           first_stray);
  }
  if (repeated > 0) {
    run.warnings.push_back(
        std::to_string(repeated) +
        " cells repeat an earlier line's and were left out; the first: " + first_repeated);
  }
  return run;
}

}  // namespace kvr::record
