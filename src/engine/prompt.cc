#include "kvr/engine/prompt.h"

#include <array>

#include "kvr/base/error.h"

namespace kvr::engine {

Prompt PreparePrompt(const Generator& generator, const std::string& text, bool chat,
                     bool truncate_left, int max_new_tokens) {
  Prompt prompt{.text = text};
  if (chat) {
    if (!generator.chat_template()) {
      throw InvalidInput(generator.info().name + " has no chat template; use template raw");
    }
    const std::array messages = {text::Message{"user", text}};
    prompt.text = generator.chat_template()->Render(messages, /*open_assistant=*/true);
  }
  prompt.tokens = generator.tokenizer().Encode(prompt.text);
  const int room = generator.info().context_tokens - max_new_tokens;
  const int over = static_cast<int>(prompt.tokens.size()) - room;
  if (truncate_left && over > 0) {
    if (room < 1) {
      throw InvalidInput("max_new_tokens: found " + std::to_string(max_new_tokens) +
                         ", which fills the context of " +
                         std::to_string(generator.info().context_tokens) + " tokens alone");
    }
    prompt.tokens.erase(prompt.tokens.begin(), prompt.tokens.begin() + over);
    prompt.truncated_tokens = over;
  }
  return prompt;
}

}  // namespace kvr::engine
