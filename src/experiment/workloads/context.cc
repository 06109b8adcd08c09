#include "context.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <memory>
#include <random>

#include "kvr/base/error.h"
#include "kvr/base/file.h"
#include "kvr/base/hash.h"
#include "kvr/base/utf8.h"
#include "kvr/experiment/config.h"
#include "kvr/experiment/prompts.h"
#include "kvr/experiment/setting_reader.h"

namespace kvr::experiment::workloads {
namespace {

struct ContextSettings {
  std::string text;
  std::string files;         // it is from
  std::vector<int> lengths;  // of histories, in tokens
  int stretches = 0;         // of the text, at each length
  int turn_tokens = 0;
};

// One stretch after the other, at every length from the same place: `length` tokens of history, of
// which the last turn's are saved on top of the others, and one turn more.
Prompts Make(const ContextSettings& settings, const Config& config,
             const engine::PromptContext& context) {
  const Tokens all = context.tokenizer.Encode(settings.text);
  const auto turn = static_cast<std::size_t>(settings.turn_tokens);
  const auto longest = static_cast<std::size_t>(settings.lengths.back());
  if (all.size() < longest + turn) {
    throw InvalidInput(fmt::format(
        "{}: has {} tokens for {}, expected {} at least: the greatest of \"lengths\" and a turn",
        settings.files, all.size(), context.info.name, longest + turn));
  }
  const int limit = config.marks.back();
  CheckLength("history of " + std::to_string(longest) + " tokens", longest + turn, limit,
              context.info);
  std::mt19937_64 random(config.sampling.seed);
  Prompts prompts;
  for (int stretch = 0; stretch < settings.stretches; ++stretch) {
    const std::size_t first = random() % (all.size() - longest - turn + 1);
    const auto tokens = [&](std::size_t count) {
      const auto begin = all.begin() + static_cast<std::ptrdiff_t>(first);
      return Tokens(begin, begin + static_cast<std::ptrdiff_t>(count));
    };
    const auto text = [&](std::size_t count) {
      return SanitizeUtf8(context.tokenizer.Decode(tokens(count))).text;
    };
    for (const int length : settings.lengths) {
      const auto history = static_cast<std::size_t>(length);
      const std::size_t before = prompts.cached.size();
      // The turn that the history ends with is stored by who had the rest of it.
      prompts.cached.push_back({text(history - turn), tokens(history - turn)});
      prompts.cached.push_back({text(history), tokens(history), history - turn});
      prompts.test.push_back({.text = text(history + turn),
                              .tokens = tokens(history + turn),
                              .limit = limit,
                              .history_tokens = history,
                              .sees = std::vector<std::size_t>{before, before + 1}});
    }
  }
  return prompts;
}

}  // namespace

void ReadContext(SettingReader& reader, const std::filesystem::path& path, Config* config) {
  auto settings = std::make_shared<ContextSettings>();
  for (const std::string& file : reader.Strings("text", {}, /*required=*/true)) {
    settings->text += SanitizeUtf8(ReadFile(path.parent_path() / file)).text;
    settings->files += (settings->files.empty() ? "" : ", ") + file;
  }
  settings->turn_tokens = static_cast<int>(reader.Integer("turn_tokens", 32, 1, 1 << 16));
  settings->lengths = reader.Integers("lengths", 1024, settings->turn_tokens + 1, 1 << 20);
  std::sort(settings->lengths.begin(), settings->lengths.end());
  settings->stretches = static_cast<int>(reader.Integer("stretches", 8, 1, 1000));
  (void)reader.Integers("ttft_budgets_ms", 1000, 1, 1000000);  // the report's
  Sha256 digest;
  digest.Update(settings->text);
  const std::string source = "sha256 " + Hex(digest.Finish());  // so that another text is noticed
  for (int stretch = 1; stretch <= settings->stretches; ++stretch) {
    for (const int length : settings->lengths) {
      const std::string id = fmt::format("{}/{}", length, stretch);
      config->cache_prompts.push_back({id + "/before", ""});
      config->cache_prompts.push_back({id, ""});
      config->test_prompts.push_back({.id = id,
                                      .group = std::to_string(length),
                                      .text = source,
                                      .session = std::to_string(stretch)});
    }
  }
  config->make_prompts = [settings](const Config& whole, const engine::PromptContext& context,
                                    const Reply&) { return Make(*settings, whole, context); };
}

}  // namespace kvr::experiment::workloads
