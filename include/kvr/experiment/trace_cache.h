// What a cache of a stated size would have given the requests of a trace: arithmetic alone.
//
// The model. The unit is a block: a whole hash id, a partial one too. A request's hit is the
// longest run of its leading blocks that are held when it arrives, less one token where that is the
// whole prompt, since one token always runs. After it all its blocks are held; then blocks are
// dropped, its own perhaps among them, until the budget holds. Requests come one after the other:
// what one computes is there for the next, even at the same millisecond. A partial block takes a
// whole block's room.
//
// The rules. lru drops the block that was used longest ago, of one request the deepest first.
// belady drops the block whose next use is furthest in the future, of those with the same next use,
// or none, the one that came last, which is the deepest of its prompt. infinite drops nothing.
// A block is used whenever one below it is, and ties drop the deepest: so neither lru nor belady
// ever holds a block without its ancestors, and every held block counts.
//
// belady needs the future: it is a bound, and no cache. In blocks it is the optimum: a hit block is
// one kept from its last use to this, a rule chooses which of these intervals to keep, at most the
// budget's number at once, and dropping the one that ends last keeps the most (Belady, IBM Systems
// Journal 5, 1966; for intervals Carlisle and Lloyd, Discrete Applied Mathematics 59, 1995); that
// every kept block counts makes it the optimum of those that need their ancestors too. In tokens,
// where a partial block weighs less, another choice may win: by a block at most for each request of
// which belady restored the whole prompt.
//
// Thread safety: pure functions.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kvr/experiment/trace.h"
#include "kvr/record/trace.h"

namespace kvr::experiment {

// What became of one request.
struct Served {
  std::uint32_t hit_blocks = 0;
  std::uint32_t evicted_blocks = 0;  // after it
  std::uint64_t held_blocks = 0;     // after it
  std::int64_t hit_tokens = 0;
  bool operator==(const Served&) const = default;
};

// Each request of the trace, served by a cache of `blocks`.
using Serve = std::vector<Served> (*)(const Trace& trace, std::uint64_t blocks);

struct TraceRule {
  const char* name;
  bool limited;  // by a budget
  Serve serve;
};

// All of them, in the order in which tables show them: a rule is a function and a line in
// src/experiment/trace_cache.cc.
extern const std::span<const TraceRule> kTraceRules;

// A budget as people write it: "2GiB", "500MB", "100000tokens", "64blocks", "10%".
struct TraceBudget {
  enum class Unit { kBytes, kTokens, kBlocks, kPercent };
  Unit unit = Unit::kBlocks;
  double amount = 0;
  std::string text;  // as written
};

// Bytes by powers of 1000 (kB, MB, GB, TB) or 1024 (KiB, MiB, GiB, TiB), tokens, blocks, or per
// cent of the trace's different blocks. Throws kInvalidInput, naming `where`, for anything else and
// for what is not above 0 or is above 2^53 bytes.
[[nodiscard]] TraceBudget ParseBudget(const std::string& text, const std::string& where);

// Most bytes that a token may take, and most bins.
inline constexpr int kMostBins = 10000;
inline constexpr std::int64_t kMostBytesPerToken = std::int64_t{1} << 24;

// Whole blocks that the budget holds; of a share, one at least. Throws kInvalidInput where that is
// none or above 2^30, and where bytes are asked for and `bytes_per_token` is not known.
[[nodiscard]] std::uint64_t BlocksOf(const TraceBudget& budget, const Trace& trace,
                                     std::optional<std::uint64_t> bytes_per_token);

struct TraceArithmetic {
  std::vector<TraceBudget> budgets;
  int bins = 12;  // of equal length, over the time from the first request to the last
  // What a token takes, if known.
  std::optional<std::uint64_t> bytes_per_token;
};

// Every rule at every budget, bin by bin: budgets as listed, each with its rules, and last the
// rules without one. Rows are of no model and codec. Throws as BlocksOf does. Cost: for each rule
// and budget, a pass over the trace's ids.
[[nodiscard]] std::vector<record::TraceRow> CountTrace(const Trace& trace,
                                                       const TraceArithmetic& arithmetic);

}  // namespace kvr::experiment
