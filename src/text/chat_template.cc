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

const ChatTemplate::Role& ChatTemplate::RoleOf(const std::string& name) const {
  const auto found = roles_.find(name);
  if (found != roles_.end()) return found->second;
  std::vector<std::string> known;
  for (const auto& [role, unused] : roles_) known.push_back("'" + role + "'");
  std::sort(known.begin(), known.end());
  std::string list;
  for (const std::string& role : known) list += (list.empty() ? "" : ", ") + role;
  throw InvalidInput("found the role '" + name + "'; this model's chat template knows " + list);
}

std::string ChatTemplate::Turn(const Message& message) const {
  const Role& role = RoleOf(message.role);
  return role.prefix + message.content + role.suffix;
}

const std::string& ChatTemplate::Closing(const std::string& role) const {
  return RoleOf(role).suffix;
}

std::string ChatTemplate::Opening() const {
  std::string text = begin_;
  if (default_system_) text += Turn({"system", *default_system_});
  if (text.empty() && !strip_.empty() && RoleOf("user").prefix.starts_with(strip_)) {
    throw InvalidInput("this model's chat template writes '" + strip_ +
                       "' with each turn but the first, which this does not do yet");
  }
  if (text.starts_with(strip_)) text.erase(0, strip_.size());
  return text;
}

std::string ChatTemplate::Render(std::span<const Message> messages, bool open_assistant) const {
  std::string text = begin_;
  if (default_system_ && !messages.empty() && messages.front().role != "system") {
    text += Turn({"system", *default_system_});
  }
  for (const Message& message : messages) text += Turn(message);
  if (open_assistant) text += open_assistant_;
  if (text.starts_with(strip_)) text.erase(0, strip_.size());
  return text;
}

}  // namespace kvr::text
