// Chat templates reduced to role prefixes and suffixes.
#pragma once

#include <nlohmann/json_fwd.hpp>
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
  // `spec` is the archive's metadata "template" object (docs/archive_format.md): for each role a
  // prefix and a suffix, the default system message if the model has one, what opens the
  // assistant's turn. Throws kCorrupt.
  explicit ChatTemplate(const nlohmann::json& spec);

  // The text of a conversation, ready for the assistant to speak when `open_assistant` is set.
  // Throws kInvalidInput for a role that the model does not know.
  [[nodiscard]] std::string Render(std::span<const Message> messages, bool open_assistant) const;

 private:
  struct Role {
    std::string prefix, suffix;
  };
  std::unordered_map<std::string, Role> roles_;
  std::string begin_;            // put before the first message
  std::string default_system_;   // spoken when the first message is not a system message
  std::string open_assistant_;
};

}  // namespace kvr::text
