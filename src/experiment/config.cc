#include "kvr/experiment/config.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <limits>
#include <optional>
#include <set>
#include <sstream>
#include <tuple>

#include "kvr/base/error.h"
#include "kvr/base/file.h"
#include "kvr/base/utf8.h"

namespace kvr::experiment {

namespace {

std::string Quoted(const Json& value) {
  std::string text = DumpLine(value);
  if (text.size() > 60) text = text.substr(0, 57) + "...";
  return text;
}

// Reads one object's members, each by name, and at the end refuses those nobody asked for.
class Reader {
 public:
  Reader(const Json& object, std::string where) : object_(object), where_(std::move(where)) {
    if (!object.is_object()) Fail("", object, "an object");
  }

  [[noreturn]] void Fail(const std::string& key, const Json& found,
                         const std::string& expected) const {
    throw InvalidInput(where_ + (key.empty() ? "" : "/" + key) + ": found " + Quoted(found) +
                       ", expected " + expected);
  }

  const Json* Find(const std::string& key) {
    known_.push_back(key);
    const auto found = object_.find(key);
    return found == object_.end() ? nullptr : &*found;
  }

  const Json& Need(const std::string& key, const std::string& expected) {
    const Json* value = Find(key);
    if (value == nullptr) {
      throw InvalidInput(where_ + "/" + key + ": is missing, expected " + expected + Hint(key));
    }
    return *value;
  }

  std::string String(const std::string& key, std::optional<std::string> fallback) {
    if (!fallback) return AsString(key, Need(key, "a string"));
    const Json* value = Find(key);
    return value == nullptr ? *fallback : AsString(key, *value);
  }

  // A string, or a list of strings that makes one axis of the matrix.
  // One whole number or a list of them.
  std::vector<int> Integers(const std::string& key, int fallback, int low, int high) {
    const Json* value = Find(key);
    if (value == nullptr) return {fallback};
    const bool list = value->is_array();
    if (list && value->empty()) Fail(key, *value, "a whole number or a list of them, not empty");
    std::vector<int> numbers;
    for (std::size_t i = 0; i < (list ? value->size() : 1); ++i) {
      const std::string at = list ? key + "/" + std::to_string(i) : key;
      const Json& number = list ? (*value)[i] : *value;
      numbers.push_back(static_cast<int>(AsInteger(at, number, low, high)));
      if (std::count(numbers.begin(), numbers.end(), numbers.back()) > 1) {
        Fail(at, number, "each value once");
      }
    }
    return numbers;
  }

  std::vector<std::string> Strings(const std::string& key, std::vector<std::string> fallback,
                                   bool required = false) {
    const Json* value = required ? &Need(key, "a string or a list of strings") : Find(key);
    if (value == nullptr) return fallback;
    if (value->is_string()) return {value->get<std::string>()};
    if (!value->is_array() || value->empty()) {
      Fail(key, *value, "a string or a list of strings, not empty");
    }
    std::vector<std::string> strings;
    for (std::size_t i = 0; i < value->size(); ++i) {
      const std::string at = key + "/" + std::to_string(i);
      strings.push_back(AsString(at, (*value)[i]));
      if (std::count(strings.begin(), strings.end(), strings.back()) > 1) {
        Fail(at, (*value)[i], "each value once");
      }
    }
    return strings;
  }

  std::string OneOf(const std::string& key, const std::string& fallback,
                    const std::vector<std::string>& allowed) {
    std::string value = String(key, fallback);
    CheckOneOf(key, value, allowed);
    return value;
  }

  void CheckOneOf(const std::string& key, const std::string& value,
                  const std::vector<std::string>& allowed) const {
    if (std::find(allowed.begin(), allowed.end(), value) != allowed.end()) return;
    std::string list;
    for (const std::string& word : allowed) list += (list.empty() ? "" : ", ") + word;
    const std::string near = NearMiss(value, allowed);
    Fail(key, value, "one of " + list + (near.empty() ? "" : "; did you mean \"" + near + "\"?"));
  }

  double Number(const std::string& key, double fallback, double low, double high) {
    const Json* value = Find(key);
    if (value == nullptr) return fallback;
    std::ostringstream range;
    range << "a number from " << low << " to " << high;
    if (!value->is_number() || !(value->get<double>() >= low && value->get<double>() <= high)) {
      Fail(key, *value, range.str());
    }
    return value->get<double>();
  }

  std::int64_t Integer(const std::string& key, std::int64_t fallback, std::int64_t low,
                       std::int64_t high) {
    const Json* value = Find(key);
    return value == nullptr ? fallback : AsInteger(key, *value, low, high);
  }

  bool Bool(const std::string& key, bool fallback) {
    const Json* value = Find(key);
    if (value == nullptr) return fallback;
    if (!value->is_boolean()) Fail(key, *value, "true or false");
    return value->get<bool>();
  }

  void Finish() const {
    for (const auto& [key, value] : object_.items()) {
      if (std::find(known_.begin(), known_.end(), key) != known_.end()) continue;
      const std::string near = NearMiss(key, known_);
      std::string allowed;
      for (const std::string& word : known_) {
        if (!allowed.empty()) allowed += ", ";
        allowed += word;
      }
      std::string message = where_;
      message.append("/").append(key).append(": is no known setting");
      if (!near.empty()) message.append("; did you mean \"").append(near).append("\"?");
      throw InvalidInput(message.append(" (known are: ").append(allowed).append(")"));
    }
  }

 private:
  std::int64_t AsInteger(const std::string& key, const Json& value, std::int64_t low,
                         std::int64_t high) const {
    if (!value.is_number_integer() || value.get<std::int64_t>() < low ||
        value.get<std::int64_t>() > high) {
      Fail(key, value,
           "a whole number from " + std::to_string(low) + " to " + std::to_string(high));
    }
    return value.get<std::int64_t>();
  }

  std::string AsString(const std::string& key, const Json& value) const {
    if (!value.is_string() || value.get<std::string>().empty()) {
      Fail(key, value, "a string, not empty");
    }
    return value;
  }

  // A near miss of a missing key among those that are there.
  std::string Hint(const std::string& key) const {
    std::vector<std::string> present;
    for (const auto& [name, value] : object_.items()) present.push_back(name);
    const std::string near = NearMiss(key, present);
    return near.empty() ? "" : "; is \"" + near + "\" meant?";
  }

  const Json& object_;
  std::string where_;
  std::vector<std::string> known_;
};

// The objects of a JSONL file, or of an inline list.
std::vector<std::pair<std::string, Json>> PromptObjects(const Json& value, const std::string& where,
                                                        const std::filesystem::path& folder) {
  std::vector<std::pair<std::string, Json>> objects;
  if (value.is_array()) {
    for (std::size_t i = 0; i < value.size(); ++i) {
      objects.emplace_back(where + "/" + std::to_string(i), value[i]);
    }
    return objects;
  }
  if (!value.is_string()) {
    throw InvalidInput(where + ": found " + Quoted(value) +
                       ", expected a JSONL file's path or a list of objects");
  }
  const std::filesystem::path path = folder / value.get<std::string>();
  const Sanitized sanitized = SanitizeUtf8(ReadFile(path));
  if (sanitized.replaced > 0) {
    spdlog::warn("{}: {} byte sequences are not UTF-8 and were replaced by U+FFFD", path.string(),
                 sanitized.replaced);
  }
  std::istringstream lines(sanitized.text);
  int number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    const std::string at = path.string() + ":" + std::to_string(number);
    objects.emplace_back(at, ParseJson(line, at));
  }
  return objects;
}

// What makes the matrix of ways of reuse, where they are not listed.
constexpr std::array kAxes = {"policies", "match", "codecs", "candidates"};

// One way of reuse; `reader` is asked for its four settings, which are lists in the matrix.
engine::Reuse ReadReuse(Reader& reader) {
  engine::Reuse reuse;
  reuse.policy =
      engine::PolicyFromString(reader.OneOf("policy", "embedding", engine::FindingPolicyNames()));
  reuse.match = cache::MatchFromString(reader.OneOf("match", "token", cache::MatchNames()));
  reuse.codec = cache::CodecFromString(reader.OneOf("codec", "fp32", cache::CodecNames()));
  reuse.candidates = static_cast<int>(reader.Integer("candidates", 5, 1, 1000));
  if (!reuse.policy.by_similarity && reader.Find("candidates") != nullptr) {
    reader.Fail("candidates", reuse.candidates, "it with policy embedding only");
  }
  reader.Finish();
  return reuse;
}

// What tells a way of reuse from another.
auto Identity(const engine::Reuse& reuse) {
  return std::tuple(reuse.policy, reuse.match, reuse.codec,
                    reuse.policy.by_similarity ? reuse.candidates : 0);
}

// "reuses" as a list, or else the matrix of "policies", "match", "codecs" and "candidates"; fills
// in the codecs too.
void ReadReuses(Reader& reader, const std::string& where, Config* config) {
  if (const Json* list = reader.Find("reuses")) {
    for (const char* key : kAxes) {
      if (const Json* other = reader.Find(key)) {
        reader.Fail(key, *other, "it inside \"reuses\", which lists each way of reuse");
      }
    }
    if (!list->is_array() || list->empty()) {
      reader.Fail("reuses", *list, "a list of objects, not empty");
    }
    for (std::size_t i = 0; i < list->size(); ++i) {
      Reader item((*list)[i], where + "/reuses/" + std::to_string(i));
      config->reuses.push_back(ReadReuse(item));
    }
  } else {
    const std::vector<std::string> policies = reader.Strings("policies", {"embedding"});
    const std::vector<std::string> matches = reader.Strings("match", {"token"});
    const std::vector<std::string> codecs = reader.Strings("codecs", {"fp32"});
    const std::vector<int> candidates = reader.Integers("candidates", 5, 1, 1000);
    for (const std::string& policy : policies) {
      reader.CheckOneOf("policies", policy, engine::FindingPolicyNames());
      for (const int count :
           engine::PolicyFromString(policy).by_similarity ? candidates : std::vector<int>{5}) {
        for (const std::string& match : matches) {
          reader.CheckOneOf("match", match, cache::MatchNames());
          for (const std::string& codec : codecs) {
            reader.CheckOneOf("codecs", codec, cache::CodecNames());
            config->reuses.push_back({.policy = engine::PolicyFromString(policy),
                                      .match = cache::MatchFromString(match),
                                      .candidates = count,
                                      .codec = cache::CodecFromString(codec)});
          }
        }
      }
    }
  }
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
        throw InvalidInput(where + "/reuses/" + std::to_string(i) +
                           ": is the same way of reuse as " + "/reuses/" + std::to_string(j) +
                           ", expected each once");
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

}  // namespace

Config ReadConfig(const std::filesystem::path& path, const std::vector<std::string>& settings) {
  Config config;
  config.json = ReadJsonFile(path);
  if (config.json.is_object()) {
    for (const std::string& setting : settings) Apply(setting, &config.json);
  }
  Reader reader(config.json, path.string() + ":");
  config.name = reader.String("name", path.stem().string());
  if (config.name.find('/') != std::string::npos || config.name[0] == '.') {
    reader.Fail("name", config.name, "a name without slashes that does not begin with a dot");
  }
  reader.String("description", "");

  const std::vector<std::string> models = reader.Strings("models", {}, /*required=*/true);
  const std::vector<std::string> precisions = reader.Strings("precisions", {});
  for (const std::string& precision : precisions) {
    reader.CheckOneOf("precisions", precision, {"fp32", "bf16", "int8"});
  }
  for (const std::string& model : models) {
    const std::size_t at = model.find("{precision}");
    if (at == std::string::npos && precisions.size() > 1) {
      reader.Fail("models", model, "\"{precision}\" in the path, since several are listed");
    }
    if (precisions.empty()) config.models.push_back({model, ""});
    for (const std::string& precision : precisions) {
      std::string file = model;
      if (at != std::string::npos) file.replace(at, 11, precision);
      config.models.push_back({file, precision});
    }
  }
  config.encoder = reader.String("encoder", "");

  std::set<std::string> ids;
  const auto prompts = [&](const char* key, auto&& add) {
    const Json& value = reader.Need(key, "a JSONL file's path or a list of objects");
    ids.clear();
    for (const auto& [where, object] :
         PromptObjects(value, path.string() + ":/" + key, path.parent_path())) {
      Reader prompt(object, where);
      const std::string id = prompt.String("id", std::nullopt);
      const std::string text = prompt.String("text", std::nullopt);
      if (!ids.insert(id).second) prompt.Fail("id", id, "each id once");
      add(prompt, id, text);
    }
    if (ids.empty()) reader.Fail(key, value, "at least one prompt");
  };
  prompts("cache_prompts", [&](Reader&, const std::string& id, const std::string& text) {
    config.cache_prompts.push_back({id, text});
  });
  std::vector<std::string> groups;
  prompts("test_prompts", [&](Reader& prompt, const std::string& id, const std::string& text) {
    config.test_prompts.push_back({id, prompt.String("group", "all"), text});
    groups.push_back(config.test_prompts.back().group);
  });
  config.control_groups = reader.Strings("control_groups", {});
  for (const std::string& group : config.control_groups) {
    reader.CheckOneOf("control_groups", group, groups);
  }

  ReadReuses(reader, path.string() + ":", &config);

  config.repetitions = static_cast<int>(reader.Integer("repetitions", 3, 1, 10000));
  config.warmups = static_cast<int>(reader.Integer("warmups", 2, 0, 1000));
  config.marks = reader.Integers("max_new_tokens", 16, 1, 1 << 20);
  std::sort(config.marks.begin(), config.marks.end());
  if (reader.Find("long_prompts") != nullptr) {
    config.long_prompts = static_cast<int>(reader.Integer("long_prompts", 0, 0, 1 << 20));
  }
  config.sampling.temperature = reader.Number("temperature", 0, 0, 100);
  config.sampling.top_k = static_cast<int>(reader.Integer("top_k", 0, 0, 1 << 30));
  config.sampling.top_p = reader.Number("top_p", 1, 0, 1);
  if (config.sampling.top_p == 0) reader.Fail("top_p", 0, "a number above 0, up to 1");
  config.sampling.seed = static_cast<std::uint64_t>(
      reader.Integer("seed", 0, 0, std::numeric_limits<std::int64_t>::max()));
  config.stop_at_eos = reader.Bool("stop_at_eos", true);
  config.chat = reader.OneOf("template", "raw", {"raw", "chat"}) == "chat";
  config.truncate_left = reader.OneOf("truncate", "refuse", {"refuse", "left"}) == "left";
  config.cold = reader.OneOf("page_cache", "warm", {"warm", "cold"}) == "cold";
  config.block_tokens = static_cast<int>(reader.Integer("block_tokens", 128, 4, 4096));
  if (config.block_tokens % 4 != 0) {
    reader.Fail("block_tokens", config.block_tokens, "a multiple of 4");
  }
  config.threads = static_cast<int>(reader.Integer("threads", 0, 0, 1024));
  config.device = reader.String("device", "cpu");
  const bool numbered = config.device.starts_with("cuda:") && config.device.size() > 5 &&
                        config.device.find_first_not_of("0123456789", 5) == std::string::npos;
  if (config.device != "cpu" && config.device != "cuda" && !numbered) {
    reader.Fail("device", config.device, "cpu, cuda or cuda:N");
  }
  reader.Finish();
  return config;
}

}  // namespace kvr::experiment
