// kvr bench --cases: given work on given token ids, timed as it comes, so that other programs can
// be measured on the same (scripts/bench_peers.py).
//
// Thread safety: none; one measurement at a time in one process. Cost: each case's work, once for
// each repetition and once more.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "kvr/base/json.h"
#include "kvr/base/types.h"
#include "kvr/experiment/bench.h"

namespace kvr::experiment {

struct BenchCase {
  enum class What {
    kPrefill,   // "prefill": baseline
    kDecode,    // "decode": baseline, two or more new tokens
    kRecycled,  // "recycled": continued from the first `cached` tokens' keys and values on disk
    kEmbed,     // "embed": word pieces and sentence embedding of `text`
  };
  What what = What::kPrefill;
  Tokens tokens;  // the prompt; empty for kEmbed
  int cached = 0;
  int new_tokens = 1;
  std::string text;
};

// Reads [{"what", "tokens", "cached", "new_tokens", "text"}, ...]; `where` names it in errors.
// Throws kInvalidInput for a key that the kind of case does not have, lacks or has out of range:
// tokens below 0 or not below `vocab`, cached below 1 or not below the number of tokens,
// new_tokens below 1 (decode: 2) and for anything else that is not of this form.
[[nodiscard]] std::vector<BenchCase> ReadBenchCases(const Json& json, int vocab,
                                                    const std::string& where);

struct BenchCaseResult {
  BenchCase::What what = BenchCase::What::kPrefill;
  // All but kEmbed.
  std::size_t prompt_tokens = 0;
  int reuse_depth = 0;
  std::uint64_t restored_bytes = 0;
  Tokens tokens;  // the new ones, chosen greedily, end of text or not
  // kEmbed alone.
  std::size_t pieces = 0;
  std::vector<float> embedding;
  // Milliseconds by phase, one for each repetition: "ttft", "restore", "prefill", and "decode",
  // which is per token after the first and empty where there is none; of kEmbed, "embed" alone.
  std::map<std::string, std::vector<double>> ms;
  double busy_cores = 0;  // processor time over wall time of the repetitions
};

struct BenchCasesResult {
  BenchSetting setting;
  std::vector<BenchCaseResult> cases;  // in the order in which they were given
};

// Runs each case once unmeasured, then `repetitions` times. A recycled case stores its first
// `cached` tokens as an entry, unmeasured, and restores them by the prefix policy, match `whole`,
// from files in the page cache. Throws kCheckFailed when a repetition restores anything else or its
// tokens differ from the first's; kInvalidInput for an embedding without an encoder or a prompt
// that the context does not hold.
[[nodiscard]] BenchCasesResult RunBenchCases(engine::Generator& generator,
                                             const std::vector<BenchCase>& cases,
                                             const BenchOptions& options);

// {"environment", "model", "repetitions", "cases": [{"what", "prompt_tokens", "reuse_depth",
// "restored_bytes", "tokens", "ms", "busy_cores"}]}; a case of "embed" has "pieces" and "embedding"
// in place of the four after "what".
[[nodiscard]] Json ToJson(const BenchCasesResult& result);

}  // namespace kvr::experiment
