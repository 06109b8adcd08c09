#include "kvr/experiment/config.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <array>
#include <limits>
#include <optional>
#include <tuple>

#include "kvr/base/error.h"
#include "kvr/base/registry.h"
#include "kvr/experiment/setting_reader.h"

namespace kvr::experiment {

namespace {

// What makes the matrix of ways of reuse, where they are not listed.
constexpr std::array kAxes = {"policies", "match", "codecs", "candidates", "page_cache"};
const std::vector<std::string> kPageCache = {"warm", "cold"};

// One way of reuse; `reader` is asked for its settings, which are lists in the matrix.
engine::Reuse ReadReuse(SettingReader& reader) {
  engine::Reuse reuse;
  reuse.policy =
      engine::PolicyFromString(reader.OneOf("policy", "embedding", engine::FindingPolicyNames()));
  reuse.match = cache::MatchFromString(reader.OneOf("match", "token", cache::MatchNames()));
  reuse.codec = cache::CodecFromString(reader.OneOf("codec", "fp32", cache::CodecNames()));
  reuse.candidates = static_cast<int>(reader.Integer("candidates", 5, 1, 1000));
  reuse.cold = reader.OneOf("page_cache", "warm", kPageCache) == "cold";
  if (!reuse.policy.by_similarity && reader.Find("candidates") != nullptr) {
    reader.Fail("candidates", reuse.candidates, "it with policy embedding only");
  }
  reader.Finish();
  return reuse;
}

// What tells a way of reuse from another.
auto Identity(const engine::Reuse& reuse) {
  return std::tuple(reuse.policy, reuse.match, reuse.codec,
                    reuse.policy.by_similarity ? reuse.candidates : 0, reuse.cold);
}

// "reuses" as a list.
std::vector<engine::Reuse> ListedReuses(SettingReader& reader, const std::string& where,
                                        const Json& list) {
  for (const char* key : kAxes) {
    if (const Json* other = reader.Find(key)) {
      reader.Fail(key, *other, "it inside \"reuses\", which lists each way of reuse");
    }
  }
  if (!list.is_array() || list.empty()) {
    reader.Fail("reuses", list, "a list of objects, not empty");
  }
  std::vector<engine::Reuse> reuses;
  for (std::size_t i = 0; i < list.size(); ++i) {
    SettingReader item(list[i], where + "/reuses/" + std::to_string(i));
    reuses.push_back(ReadReuse(item));
  }
  return reuses;
}

// The matrix of kAxes.
std::vector<engine::Reuse> ReuseMatrix(SettingReader& reader) {
  const auto words = [&](const char* key, const char* fallback,
                         const std::vector<std::string>& allowed) {
    std::vector<std::string> values = reader.Strings(key, {fallback});
    for (const std::string& value : values) reader.CheckOneOf(key, value, allowed);
    return values;
  };
  const std::vector<std::string> policies =
      words("policies", "embedding", engine::FindingPolicyNames());
  const std::vector<std::string> matches = words("match", "token", cache::MatchNames());
  const std::vector<std::string> codecs = words("codecs", "fp32", cache::CodecNames());
  const std::vector<std::string> page_cache = words("page_cache", "warm", kPageCache);
  const std::vector<int> candidates = reader.Integers("candidates", 5, 1, 1000);
  std::vector<engine::Reuse> reuses;
  for (const std::string& policy : policies) {
    const bool by_similarity = engine::PolicyFromString(policy).by_similarity;
    for (const int count : by_similarity ? candidates : std::vector<int>{5}) {
      for (const std::string& match : matches) {
        for (const std::string& codec : codecs) {
          for (const std::string& state : page_cache) {
            reuses.push_back({.policy = engine::PolicyFromString(policy),
                              .match = cache::MatchFromString(match),
                              .candidates = count,
                              .codec = cache::CodecFromString(codec),
                              .cold = state == "cold"});
          }
        }
      }
    }
  }
  return reuses;
}

// "reuses" as a list, or else the matrix; fills in the codecs too.
void ReadReuses(SettingReader& reader, const std::string& where, Config* config) {
  const Json* const list = reader.Find("reuses");
  config->reuses = list != nullptr ? ListedReuses(reader, where, *list) : ReuseMatrix(reader);
  const auto min_similarity = static_cast<float>(reader.Number("min_similarity", 0, -1, 1));
  const auto min_depth = static_cast<std::uint32_t>(reader.Integer("min_depth", 1, 1, 1 << 20));
  for (std::size_t i = 0; i < config->reuses.size(); ++i) {
    engine::Reuse& reuse = config->reuses[i];
    reuse.min_similarity = min_similarity;
    reuse.min_depth = min_depth;
    if (reuse.policy.by_similarity && config->encoder.empty()) {
      throw InvalidInput(where + "/encoder: is missing; policy embedding needs one");
    }
    for (std::size_t j = 0; j < i; ++j) {
      if (Identity(config->reuses[j]) == Identity(reuse)) {
        throw InvalidInput(
            fmt::format("{}/reuses/{}: is the same way of reuse as /reuses/{}, expected each once",
                        where, i, j));
      }
    }
    std::vector<cache::Codec>& codecs = config->codecs;
    if (std::find(codecs.begin(), codecs.end(), reuse.codec) == codecs.end()) {
      codecs.push_back(reuse.codec);
    }
  }
}

void Apply(const std::string& setting, Json* config) {
  const std::size_t equals = setting.find('=');
  if (equals == 0 || equals == std::string::npos) {
    throw InvalidInput("--set: found '" + setting + "', expected key=value");
  }
  const std::string value = setting.substr(equals + 1);
  Json parsed = Json::parse(value, nullptr, /*allow_exceptions=*/false);
  const std::string key = setting.substr(0, equals);
  (*config)[key] = parsed.is_discarded() ? Json(value) : std::move(parsed);
  // Matrix and list exclude each other; what the command line says wins.
  const bool axis = std::find(kAxes.begin(), kAxes.end(), key) != kAxes.end();
  if (axis) config->erase("reuses");
  if (key == "reuses") {
    for (const char* other : kAxes) config->erase(other);
  }
}

// "models" times "precisions".
void ReadModels(SettingReader& reader, Config* config) {
  const std::vector<std::string> models = reader.Strings("models", {}, /*required=*/true);
  const std::vector<std::string> precisions = reader.Strings("precisions", {});
  for (const std::string& precision : precisions) {
    reader.CheckOneOf("precisions", precision, {"fp32", "bf16", "int8", "source"});
  }
  constexpr std::string_view kPlace = "{precision}";
  for (const std::string& model : models) {
    const std::size_t at = model.find(kPlace);
    if (at == std::string::npos && precisions.size() > 1) {
      reader.Fail("models", model, "\"{precision}\" in the path, since several are listed");
    }
    if (precisions.empty()) config->models.push_back({model, ""});
    for (const std::string& precision : precisions) {
      std::string file = model;
      if (at != std::string::npos) file.replace(at, kPlace.size(), precision);
      config->models.push_back({file, precision});
    }
  }
}

// A number, or the rule {"until_width", "least", "most"}.
void ReadRepetitions(SettingReader& reader, const std::string& where, Config* config) {
  const Json* const value = reader.Find("repetitions");
  if (value == nullptr || !value->is_object()) {
    config->repetitions = static_cast<int>(reader.Integer("repetitions", 3, 1, 10000));
    return;
  }
  SettingReader rule(*value, where + "/repetitions");
  (void)rule.Need("until_width", "a number");
  config->until_width = rule.Number("until_width", 0, 0.001, 10);
  config->least_repetitions = static_cast<int>(rule.Integer("least", 3, 2, 10000));
  const int fallback = std::max(20, config->least_repetitions);
  config->repetitions =
      static_cast<int>(rule.Integer("most", fallback, config->least_repetitions, 10000));
  rule.Finish();
  reader.Use("repetitions", rule.used());
}

// How many cells, how long, and how they are sampled.
void ReadCells(SettingReader& reader, const std::string& where, Config* config) {
  ReadRepetitions(reader, where, config);
  config->warmups = static_cast<int>(reader.Integer("warmups", 2, 0, 1000));
  config->marks = reader.Integers("max_new_tokens", 16, 1, 1 << 20);
  std::sort(config->marks.begin(), config->marks.end());
  reader.Use("long_prompts", nullptr);  // all
  if (reader.Find("long_prompts") != nullptr) {
    config->long_prompts = static_cast<int>(reader.Integer("long_prompts", 0, 0, 1 << 20));
  }
  config->sampling.temperature = reader.Number("temperature", 0, 0, 100);
  config->sampling.top_k = static_cast<int>(reader.Integer("top_k", 0, 0, 1 << 30));
  config->sampling.top_p = reader.Number("top_p", 1, 0, 1);
  if (config->sampling.top_p == 0) reader.Fail("top_p", 0, "a number above 0, up to 1");
  config->sampling.seed = static_cast<std::uint64_t>(
      reader.Integer("seed", 0, 0, std::numeric_limits<std::int64_t>::max()));
  config->stop_at_eos = reader.Bool("stop_at_eos", true);
  if (!config->make_prompts) {
    config->chat = reader.OneOf("template", "raw", {"raw", "chat"}) == "chat";
  }
  config->truncate_left = reader.OneOf("truncate", "refuse", {"refuse", "left"}) == "left";
}

void ReadMachine(SettingReader& reader, Config* config) {
  config->block_tokens =
      static_cast<int>(reader.Integer("block_tokens", kDefaultBlockTokens, kBlockMultiple, 4096));
  if (config->block_tokens % kBlockMultiple != 0) {
    reader.Fail("block_tokens", config->block_tokens,
                "a multiple of " + std::to_string(kBlockMultiple));
  }
  config->threads = static_cast<int>(reader.Integer("threads", 0, 0, 1024));
  config->device = reader.String("device", "cpu");
  const bool numbered = config->device.starts_with("cuda:") && config->device.size() > 5 &&
                        config->device.find_first_not_of("0123456789", 5) == std::string::npos;
  if (config->device != "cpu" && config->device != "cuda" && !numbered) {
    reader.Fail("device", config->device, "cpu, cuda or cuda:N");
  }
}

// The settings as they are used. A config of these, but for those that are null, is the same.
Json InFull(const SettingReader& reader, const Config& config) {
  Json full = reader.used();
  for (const char* axis : kAxes) full.erase(axis);
  full["reuses"] = Json::array();
  for (const engine::Reuse& reuse : config.reuses) {
    Json& one = full["reuses"].emplace_back();
    one["policy"] = engine::ToString(reuse.policy);
    one["match"] = cache::ToString(reuse.match);
    one["codec"] = cache::ToString(reuse.codec);
    one["page_cache"] = reuse.cold ? "cold" : "warm";
    if (reuse.policy.by_similarity) one["candidates"] = reuse.candidates;
  }
  return full;
}

}  // namespace

Config ReadConfig(const std::filesystem::path& path, const std::vector<std::string>& settings,
                  std::span<const Workload> workloads) {
  Config config;
  config.json = ReadJsonFile(path);
  if (config.json.is_object()) {
    for (const std::string& setting : settings) Apply(setting, &config.json);
  }
  const std::string where = path.string() + ":";
  SettingReader reader(config.json, where);
  config.name = reader.String("name", path.stem().string());
  if (config.name.find('/') != std::string::npos || config.name[0] == '.') {
    reader.Fail("name", config.name, "a name without slashes that does not begin with a dot");
  }
  reader.String("description", "");
  ReadModels(reader, &config);
  config.encoder = reader.String("encoder", "");
  const std::string workload = reader.OneOf("workload", "pairs", NamesOf(workloads));
  FindNamed(workloads, workload)->read(reader, path, &config);
  ReadReuses(reader, where, &config);
  ReadCells(reader, where, &config);
  ReadMachine(reader, &config);
  reader.Finish();
  config.in_full = InFull(reader, config);
  return config;
}

}  // namespace kvr::experiment
