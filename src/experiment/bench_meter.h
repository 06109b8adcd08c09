// What the phases of kvr bench share: the work that they do, medians, and the machine's limits.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kvr/experiment/bench.h"

namespace kvr::experiment {

// What is embedded where the words do not matter.
inline constexpr const char* kSentence =
    "How do I reset the password of my account when I no longer have the phone that I used to "
    "register with, and nobody answers the support line?";

// The same for the same seed.
[[nodiscard]] Tokens RandomTokens(const engine::Generator& generator, int count, unsigned seed);

// Saves `tokens` in the folder's store, which is opened for it; returns the view of that entry.
[[nodiscard]] cache::View SaveInScratch(engine::Generator& generator,
                                        const std::filesystem::path& scratch, const Tokens& tokens);

[[nodiscard]] BenchSetting DescribeSetting(engine::Generator& generator,
                                           const BenchOptions& options);

// The members that every result's JSON begins with.
[[nodiscard]] Json ToJson(const BenchSetting& setting);

class BenchMeter {
 public:
  // Measures the machine's limits.
  BenchMeter(engine::Generator& bench_generator, const BenchOptions& bench_options);

  void Say(const std::string& what) const;

  // Of what `work` returns, called once for each repetition.
  double Median(const std::function<double()>& work) const;

  // The same. The limits are measured after each run, since on shared machines they change within
  // seconds, and are then the medians of what was found; the GEMM rate only at `gemm_rows` > 0.
  double MedianBesideLimits(const std::function<double()>& work, int gemm_rows = 0);

  // Seconds that the operations of `tokens` prefilled tokens take at the GEMM rate, and the head's
  // single row at reading speed. REQUIRES: the last MedianBesideLimits measured a GEMM rate.
  [[nodiscard]] double ComputeSeconds(int tokens) const;
  // Seconds that reading all weights once takes.
  [[nodiscard]] double WeightSeconds() const;
  // Bytes per second.
  [[nodiscard]] double read_rate() const { return read_rate_; }
  [[nodiscard]] double copy_rate() const { return copy_rate_; }
  [[nodiscard]] const BenchLimits& limits() const { return limits_; }

  engine::Generator& generator;
  const BenchOptions& options;

  // What one phase leaves to later ones.
  Tokens cached;                    // the long prompt in the scratch folder's store
  std::optional<cache::View> view;  // of that store
  double deepest_ttft_ms = 0;       // recycled, with the longest suffix; 0: not measured

 private:
  void MeasureBandwidth();
  void MeasureGemmRate(int rows);

  double layer_parameters_ = 0, head_parameters_ = 0, bytes_per_weight_ = 4;
  double read_rate_ = 0, copy_rate_ = 0, gemm_rate_ = 0;
  BenchLimits limits_;
};

struct BenchPhase {
  const char* name;
  // Rows without a phase's name get this one's.
  std::vector<BenchRow> (*run)(BenchMeter& meter);
};

// In the order in which they run.
[[nodiscard]] std::span<const BenchPhase> BenchPhases();

std::vector<BenchRow> BenchRecycledTtft(BenchMeter& meter);
std::vector<BenchRow> BenchRestore(BenchMeter& meter);
std::vector<BenchRow> BenchOverhead(BenchMeter& meter);
std::vector<BenchRow> BenchLookup(BenchMeter& meter);

}  // namespace kvr::experiment
