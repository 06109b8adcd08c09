// Executor: what a sweep asks of whatever computes its cells. The engine does so for users; in
// tests a stand-in without any model shows order, resumption, interruption and errors.
//
// Thread safety: none; one sweep at a time.
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kvr/cache/codec.h"
#include "kvr/experiment/config.h"
#include "kvr/experiment/schedule.h"
#include "kvr/record/run.h"

namespace kvr::experiment {

// What is told of each step; throws kInterrupted to stop.
using Progress = std::function<void(const std::string& what)>;

class Executor {
 public:
  virtual ~Executor() = default;

  // Describes the machine and the program, for run.json.
  [[nodiscard]] virtual Json Environment() = 0;

  // Loads a model, in place of the one before, and reads the config's prompts with it. Returns what
  // run.json says of it, but for the baseline. Throws kInvalidInput for a prompt that it can't
  // hold.
  [[nodiscard]] virtual record::ModelInfo Load(const ModelChoice& choice,
                                               const Progress& progress) = 0;

  // What follows is about the model that was loaded last.

  // Tokens of each test prompt.
  [[nodiscard]] virtual std::vector<std::size_t> PromptTokens() const = 0;
  // The cached prompt that shares most tokens with the test prompt.
  [[nodiscard]] virtual std::optional<std::string> ParentOf(std::size_t prompt) const = 0;

  // The name of the folder that OpenCache makes inside `folder`.
  [[nodiscard]] virtual std::string CacheName(cache::Codec codec) = 0;
  virtual void OpenCache(const std::filesystem::path& folder, cache::Codec codec) = 0;
  // Computes cached prompt number `cached` from nothing, so that its cost is its own, and stores
  // it. Nothing when an earlier one of this codec has the same tokens, or when the run has
  // `recorded` its cost already.
  [[nodiscard]] virtual std::optional<record::Fill> Fill(std::size_t cached, cache::Codec codec,
                                                         bool recorded) = 0;
  // From here on the codec's cache stays as it is.
  virtual void Freeze(cache::Codec codec) = 0;

  // The baseline's time to its first token: by the schedule, or in free chunks of so many tokens.
  [[nodiscard]] virtual double TtftMs(std::size_t prompt, int free_tokens) = 0;

  // Runs the step to its second token at most, unmeasured. `free_tokens`: of the baseline.
  virtual void WarmUp(const Step& step, int free_tokens) = 0;
  // Runs the step and fills in what came of it, compared with the prompt's reference run of the
  // same seed, which is made when it is first needed.
  virtual void Run(const Step& step, int round, int free_tokens, record::Cell* cell) = 0;

  // Lets go of the model and its caches, which may be removed then; does nothing where none is
  // loaded. Does not throw.
  virtual void Unload() noexcept = 0;
};

// The engine.
[[nodiscard]] std::unique_ptr<Executor> MakeEngineExecutor(const Config& config);

}  // namespace kvr::experiment
