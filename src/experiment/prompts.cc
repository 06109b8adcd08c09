#include "kvr/experiment/prompts.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <map>

#include "kvr/base/error.h"
#include "kvr/base/hash.h"
#include "kvr/experiment/schedule.h"
#include "kvr/experiment/trace_workload.h"
#include "kvr/model/archive.h"
#include "kvr/model/device.h"

namespace kvr::experiment {
namespace {

std::optional<std::size_t> ParentOf(const Tokens& tokens,
                                    const std::vector<engine::OpenTurn>& all) {
  std::optional<std::size_t> parent;
  std::size_t longest = 0;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const engine::OpenTurn& cached = all[i];
    const auto differ =
        std::mismatch(tokens.begin(), tokens.end(), cached.tokens.begin(), cached.tokens.end());
    const auto common = static_cast<std::size_t>(differ.first - tokens.begin());
    if (common <= std::max(longest, cached.opening_tokens)) continue;
    longest = common;
    parent = i;
  }
  return parent;
}

// Throws unless one archive allows what the config asks of it.
model::ArchiveInfo CheckArchive(const Config& config, const ModelChoice& choice) {
  model::ArchiveInfo info = model::ReadArchiveInfo(choice.path, "language_model");
  if (!choice.precision.empty() && choice.precision != info.precision) {
    throw Incompatible(choice.path + " is of precision " + info.precision +
                       ", the config lists it as " + choice.precision);
  }
  const std::string context =
      fmt::format("the context of {} is {} tokens", choice.path, info.context_tokens);
  if (config.marks.back() >= info.context_tokens) {
    throw InvalidInput(
        fmt::format("max_new_tokens: found {}, but {}", config.marks.back(), context));
  }
  if (config.block_tokens > info.context_tokens) {
    throw InvalidInput(fmt::format("block_tokens: found {}, but {}", config.block_tokens, context));
  }
  if (config.chat && info.metadata.at("template").is_null()) {
    throw InvalidInput("template: found chat, but " + choice.path + " has no chat template");
  }
  (void)LongestPrompts(config, info);
  return info;
}

}  // namespace

Prompts LongestPrompts(const Config& config, const model::ArchiveInfo& info) {
  const text::Tokenizer tokenizer(info.metadata.at("tokenizer"), info.tokenizer_model);
  std::optional<text::ChatTemplate> chat_template;
  const Json& chat = info.metadata.at("template");
  if (!chat.is_null()) chat_template.emplace(chat);
  return PreparePrompts(config, {info, tokenizer, chat_template},
                        [](const Tokens&, int max_new_tokens) {
                          return Tokens(static_cast<std::size_t>(max_new_tokens), 0);
                        });
}

void CheckLength(const std::string& what, std::size_t tokens, int new_tokens,
                 const model::ArchiveInfo& info, const std::string& remedy) {
  if (tokens == 0) throw InvalidInput(what + ": has no tokens for " + info.name);
  if (tokens + static_cast<std::size_t>(new_tokens) <=
      static_cast<std::size_t>(info.context_tokens)) {
    return;
  }
  throw InvalidInput(
      fmt::format("{}: its {} tokens and {} to generate pass the context of {} tokens of {}{}",
                  what, tokens, new_tokens, info.context_tokens, info.name, remedy));
}

Prompts PreparePrompts(const Config& config, const engine::PromptContext& context,
                       const Reply& reply) {
  if (config.make_prompts) return config.make_prompts(config, context, reply);
  Prompts prompts;
  std::vector<engine::OpenTurn> cached;
  for (const CachedPrompt& prompt : config.cache_prompts) {
    cached.push_back(engine::PrepareOpenTurn(context, prompt.text, config.chat));
    CheckLength("cached prompt " + prompt.id, cached.back().tokens.size(), 0, context.info);
    prompts.cached.push_back({.text = cached.back().text, .tokens = cached.back().tokens});
  }
  const std::vector<bool> is_long = LongPrompts(config);
  for (std::size_t i = 0; i < config.test_prompts.size(); ++i) {
    const TestPrompt& test = config.test_prompts[i];
    const int limit = is_long[i] ? config.marks.back() : config.marks.front();
    engine::Prompt prompt =
        engine::PreparePrompt(context, test.text, config.chat, config.truncate_left, limit);
    CheckLength("test prompt " + test.id, prompt.tokens.size(), limit, context.info,
                "; \"truncate\": \"left\" cuts the prompt");
    const std::optional<std::size_t> parent = ParentOf(prompt.tokens, cached);
    prompts.test.push_back({.text = std::move(prompt.text),
                            .tokens = std::move(prompt.tokens),
                            .truncated_tokens = prompt.truncated_tokens,
                            .limit = limit,
                            .parent = parent});
  }
  return prompts;
}

void CheckArchives(const Config& config) {
  (void)model::DescribeDevice(config.device);  // throws where it is absent
  std::map<std::string, std::string> paths;    // by what cells call a model
  for (const ModelChoice& choice : config.models) {
    const model::ArchiveInfo info = CheckArchive(config, choice);
    const auto [before, fresh] =
        paths.emplace(info.name + " (" + info.precision + ")", choice.path);
    if (!fresh) {
      throw InvalidInput("models: " + before->second + " and " + choice.path + " are both " +
                         before->first + "; results could not be told apart");
    }
  }
  if (!config.encoder.empty()) (void)model::ReadArchiveInfo(config.encoder, "encoder");
}

std::string PromptsDigest(const Config& config) {
  Json all = Json::array();
  for (const CachedPrompt& prompt : config.cache_prompts) all.push_back({prompt.id, prompt.text});
  all.push_back(nullptr);
  for (const TestPrompt& prompt : config.test_prompts) {
    all.push_back({prompt.id, prompt.group, prompt.text});
    if (prompt.session) all.back().push_back(*prompt.session);
  }
  if (config.trace) all.push_back(DescribeSample(config.trace->sample));
  Sha256 digest;
  digest.Update(DumpLine(all));
  return Hex(digest.Finish());
}

}  // namespace kvr::experiment
