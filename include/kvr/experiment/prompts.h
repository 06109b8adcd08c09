// A config's prompts as one model reads them.
//
// Thread safety: plain values and pure functions.
#pragma once

#include <cstddef>
#include <optional>
#include <vector>

#include "kvr/engine/prompt.h"
#include "kvr/experiment/config.h"

namespace kvr::experiment {

struct Prompts {
  std::vector<engine::Prompt> test;
  std::vector<int> limits;  // new tokens of those plans that go on
  std::vector<engine::OpenTurn> cached;
  // Of each test prompt, the one of `cached` that shares the longest token prefix with it; what a
  // template alone has makes nobody a parent.
  std::vector<std::optional<std::size_t>> parents;
};

// Throws kInvalidInput for a prompt that does not fit the context. Cost: tokenizes all of them.
[[nodiscard]] Prompts PreparePrompts(const Config& config, const engine::PromptContext& context);

// Looks for the device and at each archive that the config names, without loading its weights, and
// reads the prompts with its tokenizer. Throws kNotFound, kCorrupt, kIncompatible for another kind
// of archive or another precision than the config says, or kInvalidInput for a setting or a prompt
// that an archive does not allow.
void CheckArchives(const Config& config);

// SHA-256 of all prompts by name and text: a config has no more than their files' names.
[[nodiscard]] std::string PromptsDigest(const Config& config);

}  // namespace kvr::experiment
