#include "kvr/experiment/setting_reader.h"

#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <sstream>

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

// What follows a refusal where `near` was probably meant; nothing where nothing is near.
std::string Meant(const std::string& near) {
  return near.empty() ? "" : "; did you mean \"" + near + "\"?";
}

}  // namespace

SettingReader::SettingReader(const Json& object, std::string where)
    : object_(object), where_(std::move(where)) {
  if (!object.is_object()) Fail("", object, "an object");
}

void SettingReader::Fail(const std::string& key, const Json& found,
                         const std::string& expected) const {
  throw InvalidInput(where_ + (key.empty() ? "" : "/" + key) + ": found " + Quoted(found) +
                     ", expected " + expected);
}

const Json* SettingReader::Find(const std::string& key) {
  known_.push_back(key);
  const auto found = object_.find(key);
  return found == object_.end() ? nullptr : &*found;
}

const Json& SettingReader::Need(const std::string& key, const std::string& expected) {
  const Json* value = Find(key);
  if (value == nullptr) {
    throw InvalidInput(where_ + "/" + key + ": is missing, expected " + expected + Hint(key));
  }
  return *value;
}

std::string SettingReader::String(const std::string& key, std::optional<std::string> fallback) {
  if (!fallback) return AsString(key, Need(key, "a string"));
  Use(key, fallback->empty() ? Json(nullptr) : Json(*fallback));
  const Json* value = Find(key);
  return value == nullptr ? *fallback : AsString(key, *value);
}

std::vector<int> SettingReader::Integers(const std::string& key, int fallback, int low, int high) {
  Use(key, fallback);
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

std::vector<std::string> SettingReader::Strings(const std::string& key,
                                                std::vector<std::string> fallback, bool required) {
  Use(key, fallback.empty() ? Json(nullptr) : Json(fallback));
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

std::string SettingReader::OneOf(const std::string& key, const std::string& fallback,
                                 const std::vector<std::string>& allowed) {
  std::string value = String(key, fallback);
  CheckOneOf(key, value, allowed);
  return value;
}

void SettingReader::CheckOneOf(const std::string& key, const std::string& value,
                               const std::vector<std::string>& allowed) const {
  if (std::find(allowed.begin(), allowed.end(), value) != allowed.end()) return;
  Fail(key, value,
       fmt::format("one of {}{}", fmt::join(allowed, ", "), Meant(NearMiss(value, allowed))));
}

double SettingReader::Number(const std::string& key, double fallback, double low, double high) {
  Use(key, fallback);
  const Json* value = Find(key);
  if (value == nullptr) return fallback;
  std::ostringstream range;
  range << "a number from " << low << " to " << high;
  if (!value->is_number() || !(value->get<double>() >= low && value->get<double>() <= high)) {
    Fail(key, *value, range.str());
  }
  return value->get<double>();
}

std::int64_t SettingReader::Integer(const std::string& key, std::int64_t fallback, std::int64_t low,
                                    std::int64_t high) {
  Use(key, fallback);
  const Json* value = Find(key);
  return value == nullptr ? fallback : AsInteger(key, *value, low, high);
}

bool SettingReader::Bool(const std::string& key, bool fallback) {
  Use(key, fallback);
  const Json* value = Find(key);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) Fail(key, *value, "true or false");
  return value->get<bool>();
}

Json SettingReader::used() const {
  Json all = used_;
  for (const auto& [key, value] : object_.items()) {
    if (std::find(known_.begin(), known_.end(), key) == known_.end()) continue;
    // What was asked for by Use() alone stands as it is.
    if (value.is_object() && used_.contains(key)) continue;
    all[key] = value;
    if (!value.is_array()) continue;
    for (Json& item : all[key]) {
      if (item.is_object() && item.contains("id")) item = Json(item["id"]);
    }
  }
  return all;
}

void SettingReader::Finish() const {
  for (const auto& [key, value] : object_.items()) {
    if (std::find(known_.begin(), known_.end(), key) != known_.end()) continue;
    throw InvalidInput(fmt::format("{}/{}: is no known setting{} (known are: {})", where_, key,
                                   Meant(NearMiss(key, known_)), fmt::join(known_, ", ")));
  }
}

std::int64_t SettingReader::AsInteger(const std::string& key, const Json& value, std::int64_t low,
                                      std::int64_t high) const {
  if (!value.is_number_integer() || value.get<std::int64_t>() < low ||
      value.get<std::int64_t>() > high) {
    Fail(key, value, fmt::format("a whole number from {} to {}", low, high));
  }
  return value.get<std::int64_t>();
}

std::string SettingReader::AsString(const std::string& key, const Json& value) const {
  if (!value.is_string() || value.get<std::string>().empty()) {
    Fail(key, value, "a string, not empty");
  }
  return value;
}

std::string SettingReader::Hint(const std::string& key) const {
  std::vector<std::string> present;
  for (const auto& [name, value] : object_.items()) present.push_back(name);
  const std::string near = NearMiss(key, present);
  return near.empty() ? "" : "; is \"" + near + "\" meant?";
}

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
  const std::size_t begin = sanitized.text.find_first_not_of(" \t\r\n");
  if (begin != std::string::npos && sanitized.text[begin] == '[') {
    return PromptObjects(ParseJson(sanitized.text, path.string()), path.string() + ":", folder);
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

}  // namespace kvr::experiment
