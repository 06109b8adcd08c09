// Law 3's one baseline of a run: the schedule, or the best chunking without it where that is
// faster.
//
// Thread safety: pure but for what `ttft_ms` does.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

namespace kvr::experiment {

// A baseline that the user gives.
struct BaselineChoice {
  bool free = false;    // in chunks of `free_tokens`; the schedule's otherwise
  int free_tokens = 0;  // of `free`
};

// "block", or "free:256". Throws kInvalidInput for everything else.
[[nodiscard]] BaselineChoice ParseBaseline(const std::string& text);

struct Baseline {
  bool free = false;  // prefill in free chunks of `free_tokens`, instead of by the schedule
  int free_tokens = 0;
  std::vector<double> block_ms, free_ms;  // what the choice was made by
};

// Chooses the free chunks' length on the longest prompt, then times schedule and free chunks, in
// turn, on three prompts of ordinary lengths: free where its median is smaller by more than 2 %. No
// comparison uses these times. `prompt_tokens`: of each test prompt, one at least.
// `ttft_ms`(prompt, chunk): the baseline's time to its first token, by the schedule where `chunk`
// is 0. `progress` is told what is being done. Cost: up to 38 prefills.
[[nodiscard]] Baseline Calibrate(const std::vector<std::size_t>& prompt_tokens, int block_tokens,
                                 const std::function<double(std::size_t, int)>& ttft_ms,
                                 const std::function<void(const std::string&)>& progress);

}  // namespace kvr::experiment
