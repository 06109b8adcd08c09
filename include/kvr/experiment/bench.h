// kvr bench: what this machine can do at best, and how near each phase comes, measured in one run.
//
// Thread safety: none; one measurement at a time in one process. Errors: the engine's and the
// cache's, kCheckFailed where what was cached is not found again, kInterrupted when the user asks
// to stop. Cost: minutes of all cores, and memory for buffers larger than the processor's caches.
#pragma once

#include <array>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "kvr/base/json.h"
#include "kvr/engine/generator.h"

namespace kvr::experiment {

// Of RunBench, RunBenchBusy and RunBenchCases.
struct BenchOptions {
  std::filesystem::path scratch;  // a folder for the cache that is measured; removed by the caller
  int repetitions = 5;            // medians of these
  std::function<void(const std::string& what)> progress;
};

// What each result says of how it came about.
struct BenchSetting {
  Json environment, model;  // DescribeEnvironment, DescribeModel
  int repetitions = 0;
};

// Numbers of rows at which the GEMM rate is always measured; phases add others.
inline constexpr std::array kGemmRows = {4, 16, 32, 64, 128, 256, 512};

struct BenchLimits {
  // As they were measured, in order.
  std::vector<double> read_gb_per_s, copy_gb_per_s;
  std::map<int, std::vector<double>> gemm_gflop_per_s_by_rows;
};

struct BenchRow {
  std::string phase, what;
  double measured = 0;
  std::optional<double> bound;
  std::string unit;

  // How near the bound `measured` comes, whether more of the unit is better or less: 1 is the bound
  // itself. Nothing where there is no bound.
  [[nodiscard]] std::optional<double> ratio() const;
};

struct BenchResult {
  BenchSetting setting;
  BenchLimits limits;
  std::vector<BenchRow> rows;
};

// Whether more of it is better: a rate or a speed-up; less of a time or of memory is.
[[nodiscard]] bool MoreIsBetter(const std::string& unit);

// Measures the machine's limits, then each phase in turn: prefill by length, decode by depth,
// recycled TTFT over depth and suffix length, overhead, restore, embedding, look-up, memory, load.
//
// Bounds, from the median of what the limits are found to be after each repetition. Prefill:
// floating-point operations of the linear layers over libtorch's best fp32 GEMM rate at as many
// rows (512 at most), in the model's own shapes. Decode: bytes of weights read, and of keys and
// values up to the depth, over the read bandwidth. Suffix TTFT: restored bytes, read and written,
// over the copy bandwidth, plus the larger of weight bytes over read bandwidth and the suffix'
// operations over the GEMM rate at its rows. Restore: copy bandwidth. Load: reading the file once,
// from the page cache. Lookup and overhead: a hundredth of the deepest recycled TTFT. On another
// device than the CPU there are none: the limits are the CPU's.
[[nodiscard]] BenchResult RunBench(engine::Generator& generator, const BenchOptions& options);

// {"environment", "model", "repetitions", "limits": {...}, "rows": [{"phase", "what", "measured",
// "bound", "unit", "ratio"}]}; bound and ratio are null where there is none.
[[nodiscard]] Json ToJson(const BenchResult& result);

}  // namespace kvr::experiment
