// A sweep's configuration: one JSON object, checked whole before anything is loaded.
//
// Thread safety: plain values; reading is a function of its arguments and files.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kvr/base/json.h"
#include "kvr/cache/view.h"
#include "kvr/engine/generator.h"
#include "kvr/engine/prompt.h"
#include "kvr/experiment/corpus.h"
#include "kvr/experiment/workload.h"

namespace kvr::experiment {

struct Config;
struct Prompts;
struct TraceWorkload;

// Texts are empty where a workload has no more than tokens, which it makes when a model is there.
struct CachedPrompt {
  std::string id, text;
};

struct TestPrompt {
  std::string id, group, text;
  std::optional<std::string> session = {};  // that it is a turn of
  std::optional<int> turn = {};             // from 1
};

// What the model answers to a prompt, greedy or by the config's seed: a baseline's tokens.
using Reply = std::function<Tokens(const Tokens& prompt, int max_new_tokens)>;

// Makes the prompts of config.cache_prompts and config.test_prompts for one model.
using MakePrompts =
    std::function<Prompts(const Config&, const engine::PromptContext&, const Reply&)>;

struct ModelChoice {
  std::string path;
  std::string precision;  // what the archive must say; empty: whatever it says
};

struct Config {
  std::string name;
  std::vector<ModelChoice> models;  // the matrix of "models" and "precisions"
  std::string encoder;              // empty: none
  std::vector<CachedPrompt> cache_prompts;
  std::vector<TestPrompt> test_prompts;
  std::vector<std::string> control_groups;
  MakePrompts make_prompts;                    // where they are not the texts above
  std::optional<RetrievalSettings> retrieval;  // of a study of look-ups, which has no prompts
  std::shared_ptr<const TraceWorkload> trace;  // of workload "trace", else null
  std::vector<cache::Codec> codecs;            // a store each, filled once each
  // "reuses", or the matrix of "policies", "match", "codecs", "candidates" and "page_cache". The
  // first is the one that long prompts are decoded to the end by.
  std::vector<engine::Reuse> reuses;
  int repetitions = 3;  // of every cell; with until_width, the most of them
  int least_repetitions = 3;
  // Rounds end when their noise leaves the mean speed-up no wider an interval (stopping.h).
  std::optional<double> until_width;
  int warmups = 2;
  std::vector<int> marks = {16};  // "max_new_tokens": numbers at which totals are taken, rising
  // Test prompts that are decoded to the last mark, the others to the first; nothing: all are.
  std::optional<int> long_prompts;
  engine::Sampling sampling;  // its seed also orders the cells
  bool stop_at_eos = true;
  bool chat = false;           // "template": "chat" instead of "raw"
  bool truncate_left = false;  // "truncate": "left" instead of "refuse"
  int block_tokens = kDefaultBlockTokens;
  int threads = 0;
  std::string device = "cpu";
  Json in_full;  // every setting with the value that is used; of listed prompts the names alone
  Json json;     // as read, settings applied, prompts' texts left out: goes into run.json
};

// Reads `path` and applies `settings` ("key=value", the value as JSON, or else a string). Paths of
// prompts are relative to the config's folder, archives to the working folder. Throws kInvalidInput
// naming the JSON path, what was found and what is allowed; kNotFound for a missing file.
[[nodiscard]] Config ReadConfig(const std::filesystem::path& path,
                                const std::vector<std::string>& settings,
                                std::span<const Workload> workloads = kWorkloads);

}  // namespace kvr::experiment
