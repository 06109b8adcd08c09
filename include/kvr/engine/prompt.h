// From a user's text to the tokens that a request carries.
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

// Renders `text` as the user's turn when `chat` is set, and encodes it. When the tokens and
// `max_new_tokens` pass the context, the oldest are cut if `truncate_left` is set; Generate refuses
// otherwise. Throws kInvalidInput when the archive has no chat template or max_new_tokens alone
// fills the context. REQUIRES: `text` is valid UTF-8.
[[nodiscard]] Prompt PreparePrompt(const Generator& generator, const std::string& text, bool chat,
                                   bool truncate_left, int max_new_tokens);

}  // namespace kvr::engine
