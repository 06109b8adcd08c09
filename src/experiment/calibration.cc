#include "kvr/experiment/calibration.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <string_view>

#include "kvr/base/error.h"
#include "kvr/record/statistics.h"

namespace kvr::experiment {

BaselineChoice ParseBaseline(const std::string& text) {
  constexpr std::string_view kFree = "free:";
  if (text == "block") return {};
  if (text.starts_with(kFree)) {
    const std::string tokens = text.substr(kFree.size());
    const bool digits = !tokens.empty() && tokens.size() <= 7 &&
                        tokens.find_first_not_of("0123456789") == std::string::npos;
    if (digits && std::stoi(tokens) > 0) return {.free = true, .free_tokens = std::stoi(tokens)};
  }
  throw InvalidInput("--baseline: found \"" + text +
                     "\", expected block, or free:TOKENS with the length of its chunks");
}

Baseline Calibrate(const std::vector<std::size_t>& prompt_tokens, int block_tokens,
                   const std::function<double(std::size_t, int)>& ttft_ms,
                   const std::function<void(const std::string&)>& progress) {
  constexpr int kChunkRounds = 2;
  constexpr std::size_t kRounds = 5;
  std::vector<std::size_t> by_length(prompt_tokens.size());
  std::iota(by_length.begin(), by_length.end(), std::size_t{0});
  std::stable_sort(by_length.begin(), by_length.end(),
                   [&](auto a, auto b) { return prompt_tokens[a] < prompt_tokens[b]; });
  const int longest = static_cast<int>(prompt_tokens[by_length.back()]);
  std::map<int, double> least_ms;
  for (int round = 0; round < kChunkRounds; ++round) {
    for (const int chunk : {block_tokens, 2 * block_tokens, 4 * block_tokens, longest}) {
      if (chunk > longest) continue;
      progress("measuring chunks of " + std::to_string(chunk) + " tokens");
      const double ms = ttft_ms(by_length.back(), chunk);
      const auto [at, fresh] = least_ms.emplace(chunk, ms);
      if (!fresh) at->second = std::min(at->second, ms);
    }
  }
  Baseline baseline{.block_ms = std::vector<double>(kRounds),
                    .free_ms = std::vector<double>(kRounds)};
  baseline.free_tokens =
      std::min_element(least_ms.begin(), least_ms.end(), [](const auto& a, const auto& b) {
        return a.second < b.second;
      })->first;

  for (std::size_t round = 0; round < kRounds; ++round) {
    progress("choosing the baseline");
    for (const std::size_t quarter : {1U, 2U, 3U}) {
      const std::size_t prompt = by_length[(by_length.size() - 1) * quarter / 4];
      for (const bool free : {round % 2 == 0, round % 2 != 0}) {
        (free ? baseline.free_ms : baseline.block_ms)[round] +=
            ttft_ms(prompt, free ? baseline.free_tokens : 0);
      }
    }
  }
  baseline.free =
      record::Median(baseline.free_ms).value() < 0.98 * record::Median(baseline.block_ms).value();
  return baseline;
}

}  // namespace kvr::experiment
