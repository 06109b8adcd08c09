// kvr bench --cases: given work on given token ids, timed as it comes, so that other programs can
// be measured on the same (scripts/bench_peers.py).
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "kvr/base/json.h"
#include "kvr/base/types.h"
#include "kvr/engine/generator.h"

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

struct BenchCasesOptions {
  std::filesystem::path scratch;  // a folder for the recycled cases' cache; removed by the caller
  int repetitions = 5;
  std::function<void(const std::string& what)> progress;
};

// Runs each case once unmeasured, then `repetitions` times. The result: {"environment", "model",
// "repetitions", "cases": [{"what", "prompt_tokens", "reuse_depth", "restored_bytes", "tokens",
// "ms", "busy_cores"}]} in the order of `cases`. "tokens" are the new ones, chosen greedily, end of
// text or not. "ms" has a list of milliseconds, one for each repetition, by phase: "ttft",
// "restore", "prefill", and "decode", which is per token after the first. "busy_cores" is processor
// time over wall time of the repetitions. An embedding's case has "pieces" and "embedding" instead
// of tokens, and "embed" only in "ms".
//
// A recycled case stores its first `cached` tokens as an entry, unmeasured, and restores them by
// the prefix policy, match `whole`, from files in the page cache. Throws kCheckFailed when a
// repetition restores anything else or its tokens differ from the first's; kInvalidInput for an
// embedding without an encoder or a prompt that the context does not hold.
[[nodiscard]] Json RunBenchCases(engine::Generator& generator, const std::vector<BenchCase>& cases,
                                 const BenchCasesOptions& options);

}  // namespace kvr::experiment
