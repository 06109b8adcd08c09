// Chat templates reduced to role prefixes and suffixes.
//
// Thread safety: const methods may run concurrently. Errors: as each method says. Cost: a copy of
// the text.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>

namespace kvr::text {

struct Message {
  std::string role;  // "system", "user" or "assistant"
  std::string content;
};

class ChatTemplate {
 public:
  // `spec` is the archive's metadata "template" object (docs/archive_format.md):
  //   {"begin": "", "strip": "", "default_system": null or text, "open_assistant": text,
  //    "roles": {"user": {"prefix": text, "suffix": text}, ...}}
  // Throws kCorrupt for another shape, or a default system message without a role "system".
  explicit ChatTemplate(const nlohmann::json& spec);

  // The text of a conversation, ready for the assistant to speak when `open_assistant` is set. The
  // model's default system message, if it has one, goes first unless the first message is a system
  // message or there is none at all.
  // Throws kInvalidInput for a role that the model does not know.
  [[nodiscard]] std::string Render(std::span<const Message> messages, bool open_assistant) const;

  // The same in parts, for conversations whose turns come one at a time: Opening, then each
  // Turn, whose assistant's content stands between open_assistant and Closing("assistant").
  // Opening has the default system message. Throws kInvalidInput as Render does, and where a
  // conversation's beginning is part of its first turn.
  [[nodiscard]] std::string Opening() const;
  [[nodiscard]] std::string Turn(const Message& message) const;
  [[nodiscard]] const std::string& open_assistant() const { return open_assistant_; }
  [[nodiscard]] const std::string& Closing(const std::string& role) const;

 private:
  struct Role {
    std::string prefix, suffix;
  };
  [[nodiscard]] const Role& RoleOf(const std::string& name) const;

  std::unordered_map<std::string, Role> roles_;
  std::string begin_;                          // put before the first message
  std::string strip_;                          // not written at the very beginning: Encode adds it
  std::optional<std::string> default_system_;  // spoken when the first message is no system message
  std::string open_assistant_;
};

}  // namespace kvr::text
