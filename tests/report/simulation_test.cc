// The report's intervals and verdicts on simulated runs of which the truth is known.
// KVR_SIMULATIONS sets how many runs stand behind each line (docs/statistics.md has the table of
// 2,000).
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

#include "../../src/report/tables/tables.h"
#include "simulated_run.h"

namespace kvr::report {
namespace {

constexpr int kRepetitions = 3;
constexpr double kBaselineMs = 100;
constexpr TableKind kJudged[] = {
    {"workloads", SpeedTable}, {"baselines", BaselineTable}, {"no_overlap", ControlTable}};

struct Simulated {
  Run run;
  double log_truth = 0;  // mean over prompts, strata as they are
};

// `prompts` prompts in two, three or five groups of unlike speed-ups; in each group the first four
// share a cached parent by two. A hit's speed-up differs by group, parent and prompt; where the run
// is one of controls, the recycled arm takes `slower` times the baseline's time.
Simulated Simulate(int prompts, bool control, double slower, Noise* noise) {
  const int groups = prompts < 10 ? 2 : prompts < 34 ? 3 : 5;
  Simulated result;
  Run& run = result.run = RunOf(control ? "control" : "speed");
  std::vector<double> parents(static_cast<std::size_t>(prompts));
  for (double& effect : parents) effect = 0.10 * noise->Normal();
  for (int prompt = 0; prompt < prompts; ++prompt) {
    const int of_group = prompt % groups, place = prompt / groups;
    const int parent = place < 4 ? place / 2 * 2 * groups + of_group : prompt;
    const std::string group = "g" + std::to_string(of_group);
    if (control && place == 0) run.control_groups.push_back(group);
    const std::string id = "t" + std::to_string(prompt), name = "p" + std::to_string(parent);
    const double stratum = 0.3 * of_group;
    result.log_truth += stratum / prompts;
    const double effect =
        stratum + parents[static_cast<std::size_t>(parent)] + 0.05 * noise->Normal();
    const double factor = control ? slower : std::exp(-effect);
    for (int i = 0; i < kRepetitions; ++i) {
      const auto time = [&] { return kBaselineMs * noise->Factor(); };
      run.cells.push_back(CellOf(group, id, name, i, time()));
      Cell null = CellOf(group, id, name, i, time());
      null.arm = "recycled";
      run.cells.push_back(null);
      Cell recycled = HitOf(CellOf(group, id, name, i, time() * factor));
      if (control) recycled.outcome = "miss";
      if (control) recycled.reuse_depth = 0;
      run.cells.push_back(recycled);
    }
  }
  return result;
}

TEST(Simulation, IntervalsCoverAndVerdictsKeepTheirLevel) {
  const int runs = Simulations(400);
  // Two standard errors of a share of 5 % among so many runs.
  const double slack = 2 * std::sqrt(0.05 * 0.95 / runs);
  std::printf(
      "| prompts | noise | coverage | null differs | null interval without 1 | "
      "3 %% slower called equivalent | null called equivalent |\n");
  for (const int prompts : {6, 8, 10, 20, 34}) {
    for (const bool heavy : {false, true}) {
      int covered = 0, differs = 0, apart = 0, wrongly_same = 0, same = 0;
      for (int i = 0; i < runs; ++i) {
        Noise noise(static_cast<std::uint64_t>(i) * 1000 + static_cast<std::uint64_t>(prompts),
                    heavy);
        const Simulated speed = Simulate(prompts, false, 1, &noise);
        const std::vector<record::Run> both = {speed.run,
                                               Simulate(prompts, true, 1.03, &noise).run};
        const Report report = BuildReport(both, kJudged);
        const Json gain =
            RowOf(report, "workloads",
                  {{"run", "speed"}, {"workload", "all but control"}, {"policy", "prefix"}});
        const double truth = std::exp(speed.log_truth);
        covered += gain.at("ttft_speedup_low") <= truth && gain.at("ttft_speedup_high") >= truth;
        const Json null = RowOf(report, "baselines", {{"run", "speed"}, {"what", "null variant"}});
        differs += null.at("ttft_verdict") == "differs";
        apart += null.at("ttft_ratio_low") > 1 || null.at("ttft_ratio_high") < 1;
        same +=
            RowOf(report, "no_overlap", {{"policy", "off"}}).at("prefill_verdict") == "equivalent";
        wrongly_same += RowOf(report, "no_overlap", {{"policy", "prefix"}}).at("prefill_verdict") ==
                        "equivalent";
      }
      const auto share = [&](int count) { return static_cast<double>(count) / runs; };
      std::printf("| %d | %s | %.3f | %.3f | %.3f | %.3f | %.2f |\n", prompts,
                  heavy ? "heavy-tailed" : "lognormal", share(covered), share(differs),
                  share(apart), share(wrongly_same), share(same));
      EXPECT_GE(share(covered), 0.93 - (runs < 2000 ? slack / 2 : 0)) << prompts << heavy;
      EXPECT_LE(share(differs), 0.05 + slack) << prompts << heavy;
      EXPECT_LE(share(apart), 0.05 + slack) << prompts << heavy;
      EXPECT_LE(share(wrongly_same), 0.05 + slack) << prompts << heavy;
    }
  }
}

}  // namespace
}  // namespace kvr::report
