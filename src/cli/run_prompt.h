// Private to kvr run: one prompt through the arms that were asked for, without printing.
#pragma once

#include <functional>
#include <vector>

#include "run.h"

namespace kvr::cli {

class PromptRunner {
 public:
  // Opens the cache, where something needs it, and warms up. What can be computed is computed,
  // whatever is wrong with the cache: it is then only read, or not used at all, and a warning says
  // so once.
  PromptRunner(const RunOptions& options, engine::Generator& generator);

  using Generate = std::function<engine::Generation(const engine::Request&)>;
  // One prompt by each arm, whose measured generation is left to `generate`. Throws as
  // engine::PreparePrompt and engine::Generator::Generate do.
  RunResult Run(const BatchLine& line, const Generate& generate);

  // Caches what Run() read and wrote, into result->saved; where the cache can't take it, that is
  // empty and a warning says why, once.
  void Save(RunResult* result);

 private:
  [[nodiscard]] bool Uses(engine::Arm arm) const;
  cache::Store* Store() { return generator_.store(options_.model.codec); }
  void OpenCache();
  engine::Request MakeRequest(const engine::Prompt& prompt, engine::Arm arm,
                              const cache::View* view) const;

  const RunOptions& options_;
  engine::Generator& generator_;
  const std::vector<engine::Arm> arms_;
  bool save_failed_ = false;
};

}  // namespace kvr::cli
