// "pairs": cached prompts and test prompts as they are listed, as the paper has them.
#pragma once

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "kvr/base/error.h"
#include "kvr/experiment/config.h"
#include "kvr/experiment/setting_reader.h"
#include "kvr/experiment/workload.h"

namespace kvr::experiment::workloads {

// Calls `add` with each prompt of the list or file that the setting `key` names.
template <typename Add>
void ForEachPrompt(SettingReader& reader, const std::filesystem::path& path, const char* key,
                   Add add) {
  const Json& value = reader.Need(key, "a JSONL file's path or a list of objects");
  std::set<std::string> ids;
  for (const auto& [where, object] :
       PromptObjects(value, path.string() + ":/" + key, path.parent_path())) {
    SettingReader prompt(object, where);
    const std::string id = prompt.String("id", std::nullopt);
    const std::string text = prompt.String("text", std::nullopt);
    if (!ids.insert(id).second) prompt.Fail("id", id, "each id once");
    add(prompt, id, text);
  }
  if (ids.empty()) reader.Fail(key, value, "at least one prompt");
}

inline void ReadPrompts(SettingReader& reader, const std::filesystem::path& path, Config* config) {
  ForEachPrompt(reader, path, "cache_prompts", [&](auto&, const auto& id, const auto& text) {
    config->cache_prompts.push_back({id, text});
  });
  ForEachPrompt(reader, path, "test_prompts", [&](auto& prompt, const auto& id, const auto& text) {
    config->test_prompts.push_back({id, prompt.String("group", "all"), text});
  });
}

inline void ReadPairs(SettingReader& reader, const std::filesystem::path& path, Config* config) {
  ReadPrompts(reader, path, config);
  std::vector<std::string> groups;
  for (const TestPrompt& prompt : config->test_prompts) groups.push_back(prompt.group);
  config->control_groups = reader.Strings("control_groups", {});
  for (const std::string& group : config->control_groups) {
    reader.CheckOneOf("control_groups", group, groups);
  }
}

inline constexpr Workload kPairs = {"pairs", ReadPairs};

}  // namespace kvr::experiment::workloads
