// Private to kvr run: its options, one prompt's results, and their printing.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "commands.h"
#include "kvr/engine/generator.h"
#include "kvr/engine/prompt.h"
#include "kvr/record/cell.h"

namespace kvr::cli {

struct RunOptions {
  ModelOptions model;
  std::string prompt;
  bool has_prompt = false;
  std::string prompt_file;
  std::string batch;
  std::string arm = "both";
  std::string policy = "prefix";
  std::string match = "token";
  std::string chat_template = "raw";
  std::string truncate = "refuse";
  int candidates = 5;
  float min_similarity = 0;
  int max_new_tokens = 64;
  engine::Sampling sampling;
  bool save = false;
  bool json = false;
  bool ignore_eos = false;
};

// What one prompt gave.
struct RunResult {
  struct Arm {
    record::Cell cell;   // what experiment::Describe fills in, and the arm
    bool ended = false;  // by end of text
  };

  std::string id;
  cache::Codec codec = cache::Codec::kFp32;
  engine::Prompt prompt;
  std::vector<Arm> arms;                     // the baseline first
  std::optional<record::Fidelity> fidelity;  // of two arms
  bool save_asked = false;
  std::optional<engine::SaveResult> saved;  // none: it could not be
};

// As --json shows it.
[[nodiscard]] Json ToJson(const RunResult& result);

// Generates replies and prints them: the first as it comes, the second by how it differs.
class ReplyPrinter {
 public:
  ReplyPrinter(engine::Generator& generator, const RunOptions& options)
      : generator_(generator), options_(options) {}

  engine::Generation Generate(const engine::Request& request);

 private:
  engine::Generation Stream(engine::Request request);
  [[nodiscard]] std::string Ending(const engine::Generation& generation) const;

  engine::Generator& generator_;
  const RunOptions& options_;
  std::optional<Tokens> first_;
};

// The table of times and, of two arms, what recycling gained; of a batch, the replies before.
void PrintRun(const RunResult& result, const RunOptions& options);
void PrintSaved(const engine::SaveResult& saved);

}  // namespace kvr::cli
