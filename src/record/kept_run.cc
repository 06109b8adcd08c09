#include "kvr/record/kept_run.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include "fields.h"
#include "kvr/base/error.h"
#include "kvr/base/file.h"

namespace kvr::record {
namespace {

// Of a cell, what no comparison reads. Everything else is kept, fields to come too.
constexpr auto kLeftOut = std::to_array<std::string_view>(
    {"schema", "similarity", "entry", "page_cache", "peak_memory_bytes", "wall_ms", "other_cpu_ms",
     "steal_ms", "text", "turn", "history_tokens", "truncated_tokens", "fidelity.kl_mean",
     "fidelity.kl_max", "fidelity.top1", "fidelity.cosine", "fidelity.rouge_l",
     "fidelity.semantic"});
// Of the environment, what it keeps: names no machine.
constexpr auto kEnvironment =
    std::to_array<const char*>({"cpu_model", "instruction_set", "threads", "libtorch_version",
                                "commit", "version", "build_type"});

bool IsLeftOut(std::string_view name) { return std::ranges::count(kLeftOut, name) > 0; }

// Times need no more than the clock and the noise give.
Json Rounded(const Json& ms) {
  return ms.is_number_float() ? Json(std::stod(fmt::format("{:.5g}", ms.get<double>()))) : ms;
}

// A cell's fields that are not null, those of objects by "object.field"; tokens by their number in
// `outputs`.
class CellFields {
 public:
  std::map<std::string, Json> Of(const Cell& cell) {
    std::map<std::string, Json> fields;
    const Json line = ToJson(cell);
    for (const auto& [key, value] : line.items()) {
      if (key == "work" || key == "fidelity") {
        for (const auto& [inner, number] : value.items()) {
          Add(fmt::format("{}.{}", key, inner), number, &fields);
        }
      } else if (key == "totals_ms") {
        Json totals = value;
        for (Json& ms : totals) ms = Rounded(ms);
        Add(key, totals, &fields);
      } else if (key == "tokens") {
        Add("output", Number(cell.tokens), &fields);
      } else {
        Add(key, key.ends_with("_ms") ? Rounded(value) : value, &fields);
      }
    }
    return fields;
  }
  [[nodiscard]] const std::vector<Tokens>& outputs() const { return outputs_; }

 private:
  static void Add(const std::string& name, const Json& value, std::map<std::string, Json>* fields) {
    if (!value.is_null() && !IsLeftOut(name)) (*fields)[name] = value;
  }
  // Most cells of a prompt have the same output.
  std::size_t Number(const Tokens& tokens) {
    const auto [at, fresh] = numbers_.emplace(tokens, outputs_.size());
    if (fresh) outputs_.push_back(tokens);
    return at->second;
  }

  std::map<Tokens, std::size_t> numbers_;
  std::vector<Tokens> outputs_;
};

Json DescriptionOf(const Run& run) {
  Json json = ToJson(run);
  for (const char* key : {"cache", "fill"}) json.erase(key);
  json["config"].erase("description");
  for (Json& model : json["models"]) {
    for (const char* key : {"block_ms", "free_ms"}) model["baseline"][key] = Json::array();
  }
  Json environment = Json::object();
  for (const char* key : kEnvironment) {
    if (run.environment.contains(key)) environment[key] = run.environment[key];
  }
  json["environment"] = std::move(environment);
  return json;
}

// Lines of an array, one item each.
template <typename Items>
std::string Lines(const Items& items) {
  std::string out = "[";
  for (const auto& item : items) out += (out.size() > 1 ? ",\n  " : "\n  ") + DumpLine(item);
  return out + "\n ]";
}

[[noreturn]] void Fail(const std::string& where, const std::string& what) {
  throw Corrupt(where + ": " + what);
}

const Json& Part(const Json& json, const char* key, Json::value_t type, const std::string& where) {
  const auto found = json.find(key);
  if (found == json.end() || found->type() != type) {
    Fail(where, fmt::format("field \"{}\" is missing or of the wrong type", key));
  }
  return *found;
}

// Puts a field where a line of cells.jsonl has it.
void Put(const std::string& name, const Json& value, const Json& outputs, const std::string& where,
         Json* line) {
  if (value.is_null()) return;
  const std::size_t dot = name.find('.');
  if (dot != std::string::npos) {
    Json& inner = (*line)[name.substr(0, dot)];
    if (!inner.is_null() && !inner.is_object()) Fail(where, name + " is a field of no object");
    inner[name.substr(dot + 1)] = value;
  } else if (name == "output") {
    if (!value.is_number_unsigned() || value.get<std::uint64_t>() >= outputs.size()) {
      Fail(where,
           fmt::format("output {}, expected a number below {}", DumpLine(value), outputs.size()));
    }
    (*line)["tokens"] = outputs[value.get<std::size_t>()];
  } else {
    (*line)[name] = value;
  }
}

std::vector<Cell> ReadCells(const Json& json, std::int64_t schema, const std::string& where) {
  const Json& outputs = Part(json, "outputs", Json::value_t::array, where);
  const Json& common = Part(json, "common", Json::value_t::object, where);
  std::vector<std::string> names;
  for (const Json& name : Part(json, "fields", Json::value_t::array, where)) {
    if (!name.is_string()) Fail(where, "fields: expected names");
    names.push_back(name.get<std::string>());
  }
  std::vector<Cell> cells;
  std::set<std::string> seen;
  for (const Json& row : Part(json, "cells", Json::value_t::array, where)) {
    const std::string at = fmt::format("{}: cells[{}]", where, cells.size());
    if (!row.is_array() || row.size() != names.size()) {
      Fail(at, fmt::format("expected an array of {} values", names.size()));
    }
    Json line = {{"schema", schema}, {"text", ""}, {"truncated_tokens", 0}};
    for (const auto& [name, value] : common.items()) Put(name, value, outputs, at, &line);
    for (std::size_t i = 0; i < names.size(); ++i) Put(names[i], row[i], outputs, at, &line);
    cells.push_back(CellFromJson(line, at));
    if (!seen.insert(Identity(cells.back())).second) Fail(at, "repeats an earlier cell");
  }
  return cells;
}

}  // namespace

std::string KeptText(const Run& run) {
  CellFields fields;
  std::vector<std::map<std::string, Json>> cells;
  std::map<std::string, Json> common;
  std::set<std::string> names;
  for (const Cell& cell : run.cells) {
    cells.push_back(fields.Of(cell));
    for (const auto& [name, value] : cells.back()) names.insert(name);
    if (cells.size() == 1) common = cells.back();
    std::erase_if(common, [&](const auto& field) {
      const auto own = cells.back().find(field.first);
      return own == cells.back().end() || own->second != field.second;
    });
  }
  std::erase_if(names, [&](const std::string& name) { return common.contains(name); });
  std::vector<Json> rows;
  for (const auto& cell : cells) {
    Json& row = rows.emplace_back(Json::array());
    for (const std::string& name : names) {
      const auto value = cell.find(name);
      row.push_back(value == cell.end() ? Json() : value->second);
    }
  }
  return fmt::format(
      "{{\n \"kvr_baseline\": {},\n \"run\": {},\n \"outputs\": {},\n \"common\": {},\n"
      " \"fields\": {},\n \"cells\": {}\n}}\n",
      kKeptSchema, DumpLine(DescriptionOf(run)), Lines(fields.outputs()), DumpLine(common),
      DumpLine(names), Lines(rows));
}

Run ReadKeptText(const std::string& text, const std::string& where) {
  Json json;
  try {
    json = ParseJson(text, where);
  } catch (const Error& error) {
    throw Corrupt(error.what());
  }
  const auto version = json.is_object() ? json.find("kvr_baseline") : json.end();
  if (version == json.end() || !version->is_number_unsigned()) {
    Fail(where, "neither a run's folder nor a file that kvr baseline has written");
  }
  if (*version > kKeptSchema || *version < 1) {
    throw Incompatible(fmt::format(
        "{}: version {} of a kept run, but this program reads 1 to {}; use the kvr that wrote it, "
        "or a newer one",
        where, DumpLine(*version), kKeptSchema));
  }
  const std::string at = where + ": run";
  Run run = RunFromJson(Part(json, "run", Json::value_t::object, where), at);
  run.label = where;
  run.cells = ReadCells(json, run.schema, where);
  for (const Cell& cell : run.cells) {
    const bool known = std::ranges::any_of(run.models, [&](const ModelInfo& model) {
      return model.name == cell.model && model.precision == cell.precision;
    });
    if (!known) Fail(where, "cells of model \"" + cell.model + "\", which the run does not have");
  }
  return run;
}

Run ReadRunOrKept(const std::filesystem::path& path) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) return ReadRun(path);
  return ReadKeptText(ReadFile(path), path.string());
}

}  // namespace kvr::record
