#include "kvr/experiment/trace_cache.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <queue>
#include <utility>

#include "kvr/base/error.h"
#include "kvr/base/json.h"

namespace kvr::experiment {
namespace {

using Chain = std::span<const std::uint32_t>;

// The leading blocks that are `held`, and their tokens but for the last of the prompt.
template <typename Held>
Served HitOf(const Trace& trace, std::size_t request, Held held) {
  Served served;
  for (const std::uint32_t block : trace.Chain(request)) {
    if (!held(block)) break;
    ++served.hit_blocks;
    served.hit_tokens += trace.blocks[block].tokens;
  }
  served.hit_tokens = std::min(served.hit_tokens, trace.requests[request].input_tokens - 1);
  return served;
}

// Blocks by when they were used, the last one first.
class UseOrder {
 public:
  explicit UseOrder(std::size_t blocks) : links_(blocks + 1), end_(Link(blocks)) {
    links_[end_] = {end_, end_};
  }

  [[nodiscard]] bool Holds(std::uint32_t block) const { return links_[block].before != kNone; }
  [[nodiscard]] std::uint64_t size() const { return size_; }

  void Use(std::uint32_t block) {
    if (Holds(block)) Remove(block);
    const Link first = links_[end_].after;
    links_[block] = {end_, first};
    links_[first].before = block;
    links_[end_].after = block;
    ++size_;
  }
  void DropLast() { Remove(links_[end_].before); }

 private:
  using Link = std::uint32_t;
  static constexpr Link kNone = TraceBlock::kNone;
  struct Links {
    Link before = kNone, after = kNone;
  };

  void Remove(Link block) {
    const auto [before, after] = links_[block];
    links_[before].after = after;
    links_[after].before = before;
    links_[block] = {};
    --size_;
  }

  std::vector<Links> links_;
  Link end_;  // the ring's own place
  std::uint64_t size_ = 0;
};

std::vector<Served> ServeLru(const Trace& trace, std::uint64_t blocks) {
  UseOrder order(trace.blocks.size());
  std::vector<Served> all;
  all.reserve(trace.requests.size());
  for (std::size_t i = 0; i < trace.requests.size(); ++i) {
    Served served = HitOf(trace, i, [&](std::uint32_t block) { return order.Holds(block); });
    const Chain chain = trace.Chain(i);
    // The root is used last, so that it outlives what is below it.
    for (auto block = chain.rbegin(); block != chain.rend(); ++block) order.Use(*block);
    for (; order.size() > blocks; ++served.evicted_blocks) order.DropLast();
    served.held_blocks = order.size();
    all.push_back(served);
  }
  return all;
}

std::vector<Served> ServeInfinite(const Trace& trace, std::uint64_t) {
  return ServeLru(trace, std::numeric_limits<std::uint64_t>::max());
}

// For each place of Trace::chains, the next request that has the same block; their number where
// none has.
std::vector<std::size_t> NextUses(const Trace& trace) {
  std::vector<std::size_t> next(trace.chains.size());
  std::vector<std::size_t> coming(trace.blocks.size(), trace.requests.size());
  for (std::size_t i = trace.requests.size(); i-- > 0;) {
    const TraceRequest& request = trace.requests[i];
    for (std::size_t at = request.first; at < request.first + request.count; ++at) {
      next[at] = coming[trace.chains[at]];
      coming[trace.chains[at]] = i;
    }
  }
  return next;
}

std::vector<Served> ServeBelady(const Trace& trace, std::uint64_t blocks) {
  constexpr std::size_t kNotHeld = std::numeric_limits<std::size_t>::max();
  const std::vector<std::size_t> next = NextUses(trace);
  std::vector<std::size_t> next_of(trace.blocks.size(), kNotHeld);  // of blocks that are held
  // Next use, block: of a tie the deepest, since a block's number is above its ancestors'. A use
  // that has come is not taken off: it sinks below all that are to come, and its block is in here
  // again.
  std::priority_queue<std::pair<std::size_t, std::uint32_t>> furthest;
  std::uint64_t held = 0;
  std::vector<Served> all;
  all.reserve(trace.requests.size());
  for (std::size_t i = 0; i < trace.requests.size(); ++i) {
    Served served =
        HitOf(trace, i, [&](std::uint32_t block) { return next_of[block] != kNotHeld; });
    const TraceRequest& request = trace.requests[i];
    for (std::size_t at = request.first; at < request.first + request.count; ++at) {
      const std::uint32_t block = trace.chains[at];
      if (next_of[block] == kNotHeld) ++held;
      next_of[block] = next[at];
      furthest.emplace(next[at], block);
    }
    for (; held > blocks; --held, ++served.evicted_blocks) {
      next_of[furthest.top().second] = kNotHeld;
      furthest.pop();
    }
    served.held_blocks = held;
    all.push_back(served);
  }
  return all;
}

constexpr std::array kAllRules = {
    TraceRule{"lru", true, ServeLru},
    TraceRule{"belady", true, ServeBelady},
    TraceRule{"infinite", false, ServeInfinite},
};

struct BudgetUnit {
  const char* name;
  TraceBudget::Unit unit;
  double factor;
};
constexpr std::array kUnits = {
    BudgetUnit{"B", TraceBudget::Unit::kBytes, 1},
    BudgetUnit{"kB", TraceBudget::Unit::kBytes, 1e3},
    BudgetUnit{"MB", TraceBudget::Unit::kBytes, 1e6},
    BudgetUnit{"GB", TraceBudget::Unit::kBytes, 1e9},
    BudgetUnit{"TB", TraceBudget::Unit::kBytes, 1e12},
    BudgetUnit{"KiB", TraceBudget::Unit::kBytes, 0x1p10},
    BudgetUnit{"MiB", TraceBudget::Unit::kBytes, 0x1p20},
    BudgetUnit{"GiB", TraceBudget::Unit::kBytes, 0x1p30},
    BudgetUnit{"TiB", TraceBudget::Unit::kBytes, 0x1p40},
    BudgetUnit{"tokens", TraceBudget::Unit::kTokens, 1},
    BudgetUnit{"blocks", TraceBudget::Unit::kBlocks, 1},
    BudgetUnit{"%", TraceBudget::Unit::kPercent, 1},
};

// `served` in bins; of the rows all but what they count is filled in already.
std::vector<record::TraceRow> Binned(const Trace& trace, const std::vector<Served>& served,
                                     std::vector<record::TraceRow> rows) {
  const std::int64_t first_ms = trace.requests.front().timestamp_ms;
  const std::int64_t span_ms = trace.requests.back().timestamp_ms - first_ms + 1;
  const auto bins = std::ssize(rows);
  for (std::size_t i = 0; i < served.size(); ++i) {
    const TraceRequest& request = trace.requests[i];
    const auto bin = static_cast<std::size_t>((request.timestamp_ms - first_ms) * bins / span_ms);
    record::TraceRow& row = rows[bin];
    ++row.requests;
    if (served[i].hit_tokens > 0) ++row.hit_requests;
    row.input_tokens += request.input_tokens;
    row.hit_tokens += served[i].hit_tokens;
    row.input_blocks += static_cast<std::int64_t>(request.count);
    row.hit_blocks += served[i].hit_blocks;
    row.evicted_blocks += served[i].evicted_blocks;
    row.held_blocks = static_cast<std::int64_t>(served[i].held_blocks);
  }
  for (std::size_t bin = 1; bin < rows.size(); ++bin) {
    if (rows[bin].requests == 0) rows[bin].held_blocks = rows[bin - 1].held_blocks;
  }
  return rows;
}

// Bins of equal length with nothing counted yet.
std::vector<record::TraceRow> EmptyBins(const Trace& trace, int bins) {
  const std::int64_t span_ms =
      trace.requests.back().timestamp_ms - trace.requests.front().timestamp_ms + 1;
  std::vector<record::TraceRow> rows(static_cast<std::size_t>(bins));
  for (int bin = 0; bin < bins; ++bin) {
    record::TraceRow& row = rows[static_cast<std::size_t>(bin)];
    row.trace = trace.name;
    row.block_tokens = trace.block_tokens;
    row.bin = bin;
    row.start_s = static_cast<double>(span_ms) * bin / bins / 1000;
    row.end_s = static_cast<double>(span_ms) * (bin + 1) / bins / 1000;
  }
  return rows;
}

}  // namespace

// Above it nothing is dropped of any trace that can be read, and bytes would pass 64 bits.
constexpr double kMostBlocks = 0x1p30;

constinit const std::span<const TraceRule> kTraceRules = kAllRules;

TraceBudget ParseBudget(const std::string& text, const std::string& where) {
  const char* const end = text.data() + text.size();
  double number = 0;
  const auto [after, error] = std::from_chars(text.data(), end, number, std::chars_format::fixed);
  const std::string_view rest(after, static_cast<std::size_t>(end - after));
  const std::string_view name = rest.substr(std::min(rest.find_first_not_of(' '), rest.size()));
  const auto unit =
      std::ranges::find_if(kUnits, [&](const BudgetUnit& u) { return name == u.name; });
  std::vector<std::string> names;
  names.reserve(std::size(kUnits));
  for (const BudgetUnit& known : kUnits) names.emplace_back(known.name);
  if (error != std::errc() || unit == kUnits.end()) {
    throw InvalidInput(fmt::format("{}: found \"{}\", expected a number and one of {}", where,
                                   Shortened(text, 60), fmt::join(names, ", ")));
  }
  const double amount = number * unit->factor;
  if (!(amount > 0 && amount <= 0x1p53)) {
    throw InvalidInput(fmt::format("{}: found \"{}\", expected more than 0 and at most 2^53", where,
                                   Shortened(text, 60)));
  }
  return {unit->unit, amount, text};
}

std::uint64_t BlocksOf(const TraceBudget& budget, const Trace& trace,
                       std::optional<std::uint64_t> bytes_per_token) {
  if (budget.unit == TraceBudget::Unit::kBytes && !bytes_per_token) {
    throw InvalidInput(fmt::format(
        "a budget of {}: it is not known how many bytes a token takes; say so, or give the budget "
        "in tokens, blocks or %",
        budget.text));
  }
  double blocks = budget.amount;
  double block_bytes = trace.block_tokens;
  if (budget.unit == TraceBudget::Unit::kTokens) blocks /= trace.block_tokens;
  if (budget.unit == TraceBudget::Unit::kPercent) {
    blocks = std::max(1.0, blocks * static_cast<double>(trace.blocks.size()) / 100);
  }
  if (budget.unit == TraceBudget::Unit::kBytes) {
    block_bytes *= static_cast<double>(*bytes_per_token);
    blocks /= block_bytes;
  }
  if (blocks < 1) {
    throw InvalidInput(fmt::format("a budget of {} holds no block of {} tokens{}", budget.text,
                                   trace.block_tokens,
                                   budget.unit == TraceBudget::Unit::kBytes
                                       ? fmt::format(", which takes {:.0f} bytes", block_bytes)
                                       : std::string()));
  }
  if (blocks > kMostBlocks) {
    throw InvalidInput(fmt::format("a budget of {} is above 2^30 blocks", budget.text));
  }
  return static_cast<std::uint64_t>(blocks);
}

std::vector<record::TraceRow> CountTrace(const Trace& trace, const TraceArithmetic& arithmetic) {
  const std::vector<record::TraceRow> empty = EmptyBins(trace, arithmetic.bins);
  std::vector<record::TraceRow> rows;
  const auto add = [&](const TraceRule& rule, std::optional<std::uint64_t> blocks) {
    std::vector<record::TraceRow> bins = empty;
    for (record::TraceRow& row : bins) {
      row.rule = rule.name;
      row.budget_blocks = blocks;
      row.bytes_per_token = arithmetic.bytes_per_token;
      if (blocks && row.bytes_per_token) {
        row.budget_bytes =
            *blocks * *row.bytes_per_token * static_cast<std::uint64_t>(trace.block_tokens);
      }
    }
    bins = Binned(trace, rule.serve(trace, blocks.value_or(0)), std::move(bins));
    rows.insert(rows.end(), bins.begin(), bins.end());
  };
  for (const TraceBudget& budget : arithmetic.budgets) {
    const std::uint64_t blocks = BlocksOf(budget, trace, arithmetic.bytes_per_token);
    for (const TraceRule& rule : kTraceRules) {
      if (rule.limited) add(rule, blocks);
    }
  }
  for (const TraceRule& rule : kTraceRules) {
    if (!rule.limited) add(rule, std::nullopt);
  }
  return rows;
}

}  // namespace kvr::experiment
