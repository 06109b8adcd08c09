#include "kvr/engine/prompt.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <array>

#include "kvr/base/error.h"

namespace kvr::engine {

namespace {

std::string RenderTurn(const PromptContext& context, const std::string& text, bool open_assistant) {
  if (!context.chat_template) {
    throw InvalidInput(context.info.name + " has no chat template; use template raw");
  }
  const std::array messages = {text::Message{"user", text}};
  return context.chat_template->Render(messages, open_assistant);
}

}  // namespace

Prompt PreparePrompt(const Generator& generator, const std::string& text, bool chat,
                     bool truncate_left, int max_new_tokens) {
  return PreparePrompt(
      PromptContext{generator.info(), generator.tokenizer(), generator.chat_template()}, text, chat,
      truncate_left, max_new_tokens);
}

OpenTurn PrepareOpenTurn(const PromptContext& context, const std::string& text, bool chat) {
  OpenTurn turn{.text = text};
  if (chat) {
    // The opening ends where two turns of different texts first differ.
    const std::string a = RenderTurn(context, "a", false), b = RenderTurn(context, "b", false);
    const auto differ = std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first;
    const std::string opening(a.begin(), differ);
    turn.text = opening + text;
    turn.opening_tokens = context.tokenizer.Encode(opening).size();
  }
  turn.tokens = context.tokenizer.Encode(turn.text);
  return turn;
}

Prompt PreparePrompt(const PromptContext& context, const std::string& text, bool chat,
                     bool truncate_left, int max_new_tokens) {
  Prompt prompt{.text = chat ? RenderTurn(context, text, true) : text};
  prompt.tokens = context.tokenizer.Encode(prompt.text);
  const int room = context.info.context_tokens - max_new_tokens;
  const int over = static_cast<int>(prompt.tokens.size()) - room;
  if (truncate_left && over > 0) {
    if (room < 1) {
      throw InvalidInput(
          fmt::format("max_new_tokens: found {}, which fills the context of {} tokens alone",
                      max_new_tokens, context.info.context_tokens));
    }
    prompt.tokens.erase(prompt.tokens.begin(), prompt.tokens.begin() + over);
    prompt.truncated_tokens = over;
  }
  return prompt;
}

}  // namespace kvr::engine
