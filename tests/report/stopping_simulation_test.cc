// Rounds until the mean speed-up is known well enough: what such a rule does to the intervals that
// the report prints (docs/statistics.md, "How many repetitions").
#include <cmath>
#include <cstdio>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "../../src/report/tables/tables.h"
#include "kvr/record/repetitions.h"
#include "simulated_run.h"

namespace kvr::report {
namespace {

constexpr int kLeast = 3, kMost = 20;

// A run that grows by rounds. Prompts are in two groups of unlike speed-ups, each its own cluster;
// their log speed-ups spread by `between`.
class GrowingRun {
 public:
  GrowingRun(int prompts, double between, bool heavy, std::uint64_t seed)
      : noise_(seed, heavy), run_(RunOf("grown")) {
    for (int i = 0; i < prompts; ++i) {
      effects_.push_back(0.3 * (i % 2) + between * noise_.Normal());
      truth_ += 0.3 * (i % 2) / prompts;
    }
    log_speedups_.resize(effects_.size());
  }

  void AddRound() {
    for (std::size_t i = 0; i < effects_.size(); ++i) {
      const std::string id = std::to_string(i);
      const double base = 100 * noise_.Factor();
      const double recycled = 100 * noise_.Factor() * std::exp(-effects_[i]);
      const Cell cell = CellOf("g" + std::to_string(i % 2), id, id, rounds_, base);
      run_.cells.push_back(cell);
      Cell hit = HitOf(cell);
      hit.ttft_ms = hit.prefill_ms = recycled;
      run_.cells.push_back(hit);
      log_speedups_[i].push_back(std::log(base / recycled));
    }
    ++rounds_;
  }

  int rounds() const { return rounds_; }
  double truth() const { return truth_; }
  // What more rounds can narrow, and what the report prints.
  double RepetitionWidthNow() const { return RepetitionWidth(log_speedups_).value(); }
  Interval Printed() const {
    constexpr TableKind kSpeed[] = {{"workloads", SpeedTable}};
    const Report report = BuildReport({&run_, 1}, kSpeed);
    const Json row = RowOf(report, "workloads", {{"workload", "all but control"}});
    ratio_ = row.at("ttft_speedup");
    return {row.at("ttft_speedup_low"), row.at("ttft_speedup_high")};
  }
  double ratio() const { return ratio_; }  // of the last Printed()

 private:
  Noise noise_;
  Run run_;
  std::vector<double> effects_;
  std::vector<std::vector<double>> log_speedups_;
  double truth_ = 0;
  int rounds_ = 0;
  mutable double ratio_ = 0;
};

struct Outcome {
  double coverage = 0, bias = 0, rounds = 0, at_most = 0;
};

template <typename Enough>
Outcome Simulate(int runs, int prompts, double between, bool heavy, Enough enough) {
  Outcome outcome;
  for (int i = 0; i < runs; ++i) {
    GrowingRun run(prompts, between, heavy, static_cast<std::uint64_t>(i) * 1000 + 7);
    while (run.rounds() < kLeast) run.AddRound();
    while (run.rounds() < kMost && !enough(run)) run.AddRound();
    const Interval printed = run.Printed();
    const double truth = std::exp(run.truth());
    outcome.coverage += printed.low <= truth && truth <= printed.high ? 1.0 / runs : 0;
    outcome.bias += (std::log(run.ratio()) - run.truth()) / runs;
    outcome.rounds += double(run.rounds()) / runs;
    outcome.at_most += run.rounds() == kMost ? 1.0 / runs : 0;
  }
  return outcome;
}

TEST(Simulation, AStopByTheNoiseOfRepetitionsLeavesTheIntervalsTrue) {
  const int runs = Simulations(200);
  const double slack = 2 * std::sqrt(0.05 * 0.95 / runs);
  std::printf(
      "| prompts | between | noise | width | rounds | at the cap | coverage | bias of the mean | "
      "coverage, stopped by the printed width |\n");
  const std::map<int, double> widths = {{4, 0.05}, {6, 0.04}, {10, 0.03}, {20, 0.02}};
  for (const auto& [prompts, width] : widths) {
    for (const double between : {0.0, 0.05}) {
      for (const bool heavy : {false, true}) {
        const Outcome outcome = Simulate(runs, prompts, between, heavy, [&](const GrowingRun& run) {
          return run.RepetitionWidthNow() <= width;
        });
        const Outcome printed = Simulate(runs, prompts, between, heavy, [&](const GrowingRun& run) {
          const Interval interval = run.Printed();
          return interval.high / interval.low - 1 <= width;
        });
        std::printf("| %d | %.2f | %s | %.2f | %.1f | %.2f | %.3f | %+.4f | %.3f |\n", prompts,
                    between, heavy ? "heavy-tailed" : "lognormal", width, outcome.rounds,
                    outcome.at_most, outcome.coverage, outcome.bias, printed.coverage);
        EXPECT_GE(outcome.coverage, 0.93 - slack) << prompts << " " << between << heavy;
        // Its standard error is below (0.05 + width) / sqrt(prompts * runs).
        EXPECT_LE(std::abs(outcome.bias), 3 * (between + width) / std::sqrt(prompts * runs));
      }
    }
  }
}

}  // namespace
}  // namespace kvr::report
