// kvr bench: what this machine can do at best, and how near each phase comes, measured in one run.
#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "kvr/base/json.h"
#include "kvr/engine/generator.h"

namespace kvr::experiment {

struct BenchOptions {
  std::filesystem::path scratch;  // a folder for the cache that is measured; removed by the caller
  int repetitions = 5;            // medians of these
  std::function<void(const std::string& what)> progress;
};

// Measures the machine's limits, then prefill by length, suffix TTFT over depth and suffix length,
// decode by depth, restore, look-up, embedding and model load. The result: {"environment", "model",
// "limits": {...}, "rows": [{"phase", "what", "measured", "bound", "unit", "ratio"}]}; bound and
// ratio are null where there is none, and a ratio of 1 is the bound itself, whether more or less is
// better.
//
// Bounds. Prefill: floating-point operations of the linear layers over libtorch's best fp32 GEMM
// rate at as many rows (512 at most), in the model's own shapes. Decode: bytes of weights read, and
// of keys and values up to the depth, over the read bandwidth. Suffix TTFT: restored bytes, read
// and written, over the copy bandwidth, plus the larger of weight bytes over read bandwidth and the
// suffix' operations over the GEMM rate at its rows. Restore: copy bandwidth. Load: reading the
// file once, from the page cache. Lookup and overhead: a hundredth of the deepest recycled TTFT.
[[nodiscard]] Json RunBench(engine::Generator& generator, const BenchOptions& options);

}  // namespace kvr::experiment
