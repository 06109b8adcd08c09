// The phases of kvr bench that restore one long prompt: recycled TTFT and restore.
#include <spdlog/fmt/fmt.h>

#include <algorithm>

#include "bench_meter.h"
#include "kvr/base/clock.h"
#include "kvr/model/machine.h"
#include "kvr/record/statistics.h"

namespace kvr::experiment {

namespace {

constexpr int kLongestSuffix = 32;

// The first `depth` tokens of what is cached, and `suffix` others.
engine::Request RecycledRequest(const BenchMeter& meter, int depth, int suffix) {
  engine::Request request;
  request.tokens.assign(meter.cached.begin(), meter.cached.begin() + depth);
  const Tokens added = RandomTokens(meter.generator, suffix, 4);
  request.tokens.insert(request.tokens.end(), added.begin(), added.end());
  request.max_new_tokens = 1;
  request.arm = engine::Arm::kRecycled;
  request.view = &*meter.view;
  const bool whole = depth == static_cast<int>(meter.cached.size());
  request.reuse.match = whole ? cache::Match::kWhole : cache::Match::kToken;
  return request;
}

// The faster of the schedule and one chunk.
double BaselineMs(BenchMeter& meter, const engine::Request& recycled) {
  engine::Request baseline = recycled;
  baseline.arm = engine::Arm::kBaseline;
  const double scheduled_ms = meter.generator.Generate(baseline).timings.ttft_ms;
  baseline.free_chunk_tokens = static_cast<int>(baseline.tokens.size());
  return std::min(scheduled_ms, meter.generator.Generate(baseline).timings.ttft_ms);
}

// The recycled TTFT at this depth; at the deepest, also the speed-up.
std::vector<BenchRow> SuffixRows(BenchMeter& meter, int depth, int suffix) {
  meter.Say(fmt::format("suffix of {} at depth {}", suffix, depth));
  const engine::Request request = RecycledRequest(meter, depth, suffix);
  const bool deepest = depth == static_cast<int>(meter.cached.size()) && suffix == kLongestSuffix;
  engine::Generation last;
  std::vector<double> speedups;
  const auto run = [&] {
    // The baselines first: the limits are to be those of the recycled run.
    const double baseline_ms = deepest ? BaselineMs(meter, request) : 0;
    last = meter.generator.Generate(request);
    if (deepest) speedups.push_back(baseline_ms / last.timings.ttft_ms);
    return last.timings.ttft_ms;
  };
  const double ms = meter.MedianBesideLimits(run, (suffix + 3) / 4 * 4);
  const double bound_s = 2 * static_cast<double>(last.restored_bytes) / meter.copy_rate() +
                         std::max(meter.WeightSeconds(), meter.ComputeSeconds(suffix));
  std::vector<BenchRow> rows = {{.what = fmt::format("{} restored + {}", last.reuse_depth, suffix),
                                 .measured = ms,
                                 .bound = bound_s * 1e3,
                                 .unit = "ms"}};
  if (deepest) {
    meter.deepest_ttft_ms = ms;
    rows.push_back(
        {.phase = "speedup",
         .what = fmt::format("faster baseline over recycled, {} + {}", last.reuse_depth, suffix),
         .measured = record::Median(speedups).value_or(0),
         .unit = "x"});
  }
  return rows;
}

}  // namespace

std::vector<BenchRow> BenchRecycledTtft(BenchMeter& meter) {
  const int most = std::min(900, meter.generator.info().context_tokens - 2 * kLongestSuffix);
  meter.Say("filling a cache");
  meter.cached = RandomTokens(meter.generator, most, 3);
  meter.view = SaveInScratch(meter.generator, meter.options.scratch, meter.cached);
  std::vector<BenchRow> rows;
  for (const int depth : {256, most}) {
    for (const int suffix : {1, 8, kLongestSuffix}) {
      if (depth > most) continue;
      const std::vector<BenchRow> more = SuffixRows(meter, depth, suffix);
      rows.insert(rows.end(), more.begin(), more.end());
    }
  }
  return rows;
}

std::vector<BenchRow> BenchRestore(BenchMeter& meter) {
  meter.Say("restore");
  cache::Store& store = *meter.generator.store();
  const cache::Plan plan = meter.view->WalkPrefix({.tokens = meter.cached});
  model::KvBuffer buffer =
      meter.generator.language_model().NewBuffer(static_cast<int>(plan.CapacityNeeded()) + 1);
  const cache::KvBufferView target = {buffer.keys(), buffer.values(),
                                      static_cast<std::uint32_t>(buffer.capacity_tokens())};
  // What the disk gave back lies in the page cache in smaller pieces than what was written.
  struct Case {
    const char* from;
    bool cold;
    int threads;
  };
  const int all = model::DescribeRuntime().threads;
  std::vector<BenchRow> rows;
  for (const Case& at :
       {Case{"page cache", false, 1}, Case{"page cache", false, all}, Case{"cold disk", true, 1},
        Case{"cold disk", true, all}, Case{"page cache, read back", false, all}}) {
    double bytes = 0;
    const auto restore = [&] {
      if (at.cold) store.DropFromPageCache(plan);
      const Stopwatch watch;
      bytes = static_cast<double>(store.Restore(plan, target, at.threads).bytes);
      return watch.ElapsedMs();
    };
    const double ms = at.cold ? meter.Median(restore) : meter.MedianBesideLimits(restore);
    BenchRow row{.what = fmt::format("{}, {} {}", at.from, at.threads,
                                     at.threads == 1 ? "thread" : "threads"),
                 .measured = bytes / ms / 1e6,
                 .unit = "GB/s"};
    if (!at.cold) row.bound = meter.copy_rate() / 2 / 1e9;
    rows.push_back(std::move(row));
  }
  return rows;
}

}  // namespace kvr::experiment
