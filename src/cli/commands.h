// Private to the command line: what the subcommands share.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "kvr/base/json.h"
#include "kvr/engine/generator.h"

namespace kvr::cli {

// Each adds its subcommand, whose callback does the work.
void AddRun(CLI::App& app);
void AddSweep(CLI::App& app);
void AddMerge(CLI::App& app);
void AddReport(CLI::App& app);
void AddCompare(CLI::App& app);
void AddBaseline(CLI::App& app);
void AddCheck(CLI::App& app);
void AddCache(CLI::App& app);
void AddModel(CLI::App& app);
void AddTokenize(CLI::App& app);
void AddBench(CLI::App& app);
void AddTrace(CLI::App& app);

// Which archives, and how to run them.
struct ModelOptions {
  std::string model = "models/smollm2.pt";
  std::string encoder;
  std::string cache_dir = "cache";
  int block_tokens = kDefaultBlockTokens;
  int threads = 0;
  std::string device = "cpu";
  cache::Codec codec = cache::Codec::kFp32;

  void AddTo(CLI::App* command, bool with_cache);
  // --cache alone, for commands that load no model.
  void AddCacheTo(CLI::App* command);
  // --codec, for commands that open a cache which stays. REQUIRES: this object outlives `command`.
  void AddCodecTo(CLI::App* command);
  // Sets libtorch up and loads the archives. `needs_encoder`: use the default encoder when none is
  // given and its file exists.
  [[nodiscard]] engine::Generator Load(bool needs_encoder) const;
};

inline constexpr const char* kDefaultEncoder = "models/minilm.pt";

// Standard input, whole.
[[nodiscard]] std::string ReadStdin();

// Valid UTF-8; warns when something was replaced.
[[nodiscard]] std::string Sanitize(std::string_view text, const std::string& where);

struct BatchLine {
  std::string id, text;
};
// JSONL with "text" (required) and "id" (default: the line's number). `path` "-" is standard input.
[[nodiscard]] std::vector<BatchLine> ReadBatch(const std::string& path);

// Rows of text, the heads first, as AlignText has them; a column of numbers (cells that begin with
// a digit or sign) to the right. REQUIRES: there are heads, and all rows are as long.
[[nodiscard]] std::string AlignColumns(const std::vector<std::vector<std::string>>& rows);

// "1.5 MB": powers of 1000.
[[nodiscard]] std::string HumanBytes(std::uint64_t bytes);
[[nodiscard]] std::string Fixed(double value, int digits);

}  // namespace kvr::cli
