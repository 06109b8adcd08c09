#include "kvr/text/chat_template.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

#include "kvr/base/error.h"

namespace kvr::text {

ChatTemplate::ChatTemplate(const nlohmann::json& spec) {
  try {
    begin_ = spec.value("begin", "");
    strip_ = spec.value("strip", "");
    open_assistant_ = spec.at("open_assistant").get<std::string>();
    if (spec.contains("default_system") && !spec["default_system"].is_null()) {
      default_system_ = spec["default_system"].get<std::string>();
    }
    for (const auto& [name, role] : spec.at("roles").items()) {
      roles_[name] = {role.at("prefix").get<std::string>(), role.at("suffix").get<std::string>()};
    }
  } catch (const nlohmann::json::exception& error) {
    throw Corrupt(std::string("the archive's chat template: ") + error.what() +
                  "; export the model again");
  }
  if (default_system_ && !roles_.contains("system")) {
    throw Corrupt(
        "the archive's chat template has a default system message and no role 'system'; export the "
        "model again");
  }
}

std::string ChatTemplate::Render(std::span<const Message> messages, bool open_assistant) const {
  std::string text = begin_;
  const auto add = [&](const std::string& role, const std::string& content) {
    const auto found = roles_.find(role);
    if (found == roles_.end()) {
      std::vector<std::string> known;
      for (const auto& [name, unused] : roles_) known.push_back("'" + name + "'");
      std::sort(known.begin(), known.end());
      std::string list;
      for (const std::string& name : known) list += (list.empty() ? "" : ", ") + name;
      throw InvalidInput("found the role '" + role + "'; this model's chat template knows " + list);
    }
    text += found->second.prefix + content + found->second.suffix;
  };
  if (default_system_ && !messages.empty() && messages.front().role != "system") {
    add("system", *default_system_);
  }
  for (const Message& message : messages) add(message.role, message.content);
  if (open_assistant) text += open_assistant_;
  if (text.starts_with(strip_)) text.erase(0, strip_.size());
  return text;
}

}  // namespace kvr::text
