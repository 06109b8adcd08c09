// Settings out of a JSON object, each by name, and at the end a refusal of those nobody asked for.
//
// Thread safety: none. Errors: kInvalidInput naming the place in the file, what was found and what
// is allowed. Cost: a few comparisons a setting.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kvr/base/json.h"

namespace kvr::experiment {

class SettingReader {
 public:
  // `where` names the object in messages. REQUIRES: `object` outlives the reader.
  SettingReader(const Json& object, std::string where);

  // "WHERE/key: found ..., expected ...".
  [[noreturn]] void Fail(const std::string& key, const Json& found,
                         const std::string& expected) const;

  // The setting as it stands, or null; or else it must be there.
  const Json* Find(const std::string& key);
  const Json& Need(const std::string& key, const std::string& expected);

  // Not empty. Without `fallback` it must be there.
  std::string String(const std::string& key, std::optional<std::string> fallback);
  std::string OneOf(const std::string& key, const std::string& fallback,
                    const std::vector<std::string>& allowed);
  // From `low` to `high`, both included.
  double Number(const std::string& key, double fallback, double low, double high);
  std::int64_t Integer(const std::string& key, std::int64_t fallback, std::int64_t low,
                       std::int64_t high);
  bool Bool(const std::string& key, bool fallback);

  // One value, or a list of different ones that makes an axis of a matrix.
  std::vector<int> Integers(const std::string& key, int fallback, int low, int high);
  std::vector<std::string> Strings(const std::string& key, std::vector<std::string> fallback,
                                   bool required = false);
  void CheckOneOf(const std::string& key, const std::string& value,
                  const std::vector<std::string>& allowed) const;

  // The settings that were asked for, each with its value or the fallback in its place; null for an
  // empty fallback. Of listed prompts the ids alone.
  [[nodiscard]] Json used() const;
  // What used() has of a setting whose fallback the reader was not told.
  void Use(const std::string& key, Json value) { used_[key] = std::move(value); }

  // Refuses what nobody asked for, with the name that was probably meant.
  void Finish() const;

 private:
  std::int64_t AsInteger(const std::string& key, const Json& value, std::int64_t low,
                         std::int64_t high) const;
  std::string AsString(const std::string& key, const Json& value) const;
  // A near miss of a missing key among those that are there.
  std::string Hint(const std::string& key) const;

  const Json& object_;
  std::string where_;
  std::vector<std::string> known_;
  Json used_ = Json::object();
};

// The objects of a file beside the config, one a line or all in one array, or of an inline list,
// each with its place.
[[nodiscard]] std::vector<std::pair<std::string, Json>> PromptObjects(
    const Json& value, const std::string& where, const std::filesystem::path& folder);

}  // namespace kvr::experiment
