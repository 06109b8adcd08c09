// From a user's text to the tokens that a request carries.
//
// Thread safety: all functions may run concurrently. Cost: an Encode of the text.
#pragma once

#include <string>

#include "kvr/base/types.h"
#include "kvr/engine/generator.h"

namespace kvr::engine {

struct Prompt {
  std::string text;
  Tokens tokens;
  int truncated_tokens = 0;  // cut from the left to fit the context
};

// What of a model a prompt depends on; none of it needs the weights.
struct PromptContext {
  const model::ArchiveInfo& info;
  const text::Tokenizer& tokenizer;
  const std::optional<text::ChatTemplate>& chat_template;
};

// Renders `text` as the user's turn when `chat` is set, and encodes it. When the tokens and
// `max_new_tokens` pass the context, the oldest are cut if `truncate_left` is set; Generate refuses
// otherwise. Throws kInvalidInput when the archive has no chat template or max_new_tokens alone
// fills the context. REQUIRES: `text` is valid UTF-8.
[[nodiscard]] Prompt PreparePrompt(const Generator& generator, const std::string& text, bool chat,
                                   bool truncate_left, int max_new_tokens);
[[nodiscard]] Prompt PreparePrompt(const PromptContext& context, const std::string& text, bool chat,
                                   bool truncate_left, int max_new_tokens);

// `text` as the beginning of a user's turn that may go on, which is what a cached prompt is: with
// `chat` the template up to the turn and the text, without what closes the turn. So a prompt that
// begins with `text` begins with this. `opening_tokens`: how many the template alone has.
// Throws as PreparePrompt does.
struct OpenTurn {
  std::string text;
  Tokens tokens;
  std::size_t opening_tokens = 0;
};
[[nodiscard]] OpenTurn PrepareOpenTurn(const PromptContext& context, const std::string& text,
                                       bool chat);

}  // namespace kvr::engine
