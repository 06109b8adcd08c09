// A config's prompts as one model reads them.
//
// Thread safety: plain values and pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kvr/engine/prompt.h"
#include "kvr/experiment/config.h"

namespace kvr::experiment {

struct TestedTokens {
  std::string text;  // what the tokens say; empty: no embedding can find anything for it
  Tokens tokens;
  int truncated_tokens = 0;
  int limit = 0;  // new tokens of those plans that go on
  // The cached prompt that shares the longest token prefix with it; what a template alone has makes
  // nobody a parent.
  std::optional<std::size_t> parent = {};
  // Its tokens ahead of its own turn: the conversation so far, or the document that it is about.
  std::optional<std::size_t> history_tokens = {};
  // The cached prompts that its cells may see; nothing: all of them.
  std::optional<std::vector<std::size_t>> sees = {};
  // What of it those have, by the workload's own arithmetic, token by token.
  std::optional<std::int64_t> expected_depth = {};
};

struct CachedTokens {
  std::string text;  // empty: stored without one, which no embedding finds
  Tokens tokens;
  // Its first tokens, which were a prompt: it is stored as by one who has just answered that, from
  // what the cache had then, and that is what its cost is. Nothing: it is computed from nothing.
  std::optional<std::size_t> answered_tokens = {};
};

// In the order of config.test_prompts and config.cache_prompts.
struct Prompts {
  std::vector<TestedTokens> test;
  std::vector<CachedTokens> cached;
};

// Throws kInvalidInput for a prompt that does not fit the context. `reply` is asked by workloads
// whose prompts hold replies. Cost: tokenizes all of them, and the replies.
[[nodiscard]] Prompts PreparePrompts(const Config& config, const engine::PromptContext& context,
                                     const Reply& reply);

// The same without a model, where only lengths count: every reply is as long as it may get. Needs
// no weights.
[[nodiscard]] Prompts LongestPrompts(const Config& config, const model::ArchiveInfo& info);

// Throws kInvalidInput unless `tokens`, of which there must be one, and the new ones fit the
// context. `what` names the prompt, `remedy` is added to the message.
void CheckLength(const std::string& what, std::size_t tokens, int new_tokens,
                 const model::ArchiveInfo& info, const std::string& remedy = "");

// Looks for the device and at each archive that the config names, without loading its weights, and
// reads the prompts with its tokenizer. Throws kNotFound, kCorrupt, kIncompatible for another kind
// of archive or another precision than the config says, or kInvalidInput for a setting or a prompt
// that an archive does not allow.
void CheckArchives(const Config& config);

// SHA-256 of all prompts by name and text: a config has no more than their files' names.
[[nodiscard]] std::string PromptsDigest(const Config& config);

}  // namespace kvr::experiment
