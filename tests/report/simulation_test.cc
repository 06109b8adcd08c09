// The report's intervals and verdicts on simulated runs of which the truth is known.
// KVR_SIMULATIONS sets how many runs stand behind each line (docs/statistics.md has the table of
// 2,000).
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <numbers>
#include <random>
#include <string>
#include <vector>

#include "kvr/report/report.h"

namespace kvr::report {

using namespace record;
namespace {

class Noise {
 public:
  Noise(std::uint64_t seed, bool heavy) : random_(seed), heavy_(heavy) {}

  double Uniform() { return (static_cast<double>(random_() >> 11) + 0.5) * 0x1p-53; }
  double Normal() {
    return std::sqrt(-2 * std::log(Uniform())) * std::cos(2 * std::numbers::pi * Uniform());
  }
  // One time's factor: lognormal of 3 %; or Student's t of 3 degrees of freedom, of 2 %, with one
  // time in twenty doubled.
  double Factor() {
    if (!heavy_) return std::exp(0.03 * Normal());
    double squares = 0;
    for (int i = 0; i < 3; ++i) squares += std::pow(Normal(), 2);
    return std::exp(0.02 * Normal() / std::sqrt(squares / 3)) * (Uniform() < 0.05 ? 2 : 1);
  }

 private:
  std::mt19937_64 random_;
  bool heavy_;
};

constexpr int kRepetitions = 3;
constexpr double kBaselineMs = 100;

struct Simulated {
  Run run;
  double log_truth = 0;  // mean over prompts, strata as they are
};

Cell CellOf(const std::string& group, const std::string& id, const std::string& parent,
            int repetition, double ttft_ms) {
  Cell cell;
  cell.model = "m";
  cell.precision = "fp32";
  cell.workload = group;
  cell.prompt_id = id;
  cell.cached_parent = parent;
  cell.repetition = repetition;
  cell.arm = "baseline";
  cell.schedule = "block";
  cell.policy = "off";
  cell.outcome = "off";
  cell.prompt_tokens = 100;
  cell.prefill_ms = cell.ttft_ms = ttft_ms;
  cell.new_tokens = 1;
  cell.full = false;
  return cell;
}

// `prompts` prompts in two, three or five groups of unlike speed-ups; in each group the first four
// share a cached parent by two. A hit's speed-up differs by group, parent and prompt; where the run
// is one of controls, the recycled arm takes `slower` times the baseline's time.
Simulated Simulate(int prompts, bool control, double slower, Noise* noise) {
  const int groups = prompts < 10 ? 2 : prompts < 34 ? 3 : 5;
  Simulated result;
  Run& run = result.run;
  run.label = run.name = control ? "control" : "speed";
  run.finished = "now";
  run.models.push_back({.name = "m", .precision = "fp32"});
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
      Cell recycled = CellOf(group, id, name, i, time() * factor);
      recycled.arm = "recycled";
      recycled.policy = "prefix";
      recycled.match = "token";
      recycled.outcome = control ? "miss" : "hit";
      recycled.reuse_depth = control ? 0 : 50;
      run.cells.push_back(recycled);
    }
  }
  return result;
}

Json RowOf(const Report& report, const char* table, const Json& wanted) {
  const Json json = Json::parse(FindFormat("json").table(FindTable(report, table)));
  for (const Json& row : json.at("rows")) {
    bool all = true;
    for (const auto& [key, value] : wanted.items()) all = all && row.at(key) == value;
    if (all) return row;
  }
  ADD_FAILURE() << table << " " << wanted;
  return Json::object();
}

TEST(Simulation, IntervalsCoverAndVerdictsKeepTheirLevel) {
  const char* const wanted = std::getenv("KVR_SIMULATIONS");
  const int runs = wanted == nullptr ? 400 : std::max(1, std::atoi(wanted));
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
        const Report report = BuildReport(both);
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
      EXPECT_GE(share(covered), 0.93 - (wanted == nullptr ? slack / 2 : 0)) << prompts << heavy;
      EXPECT_LE(share(differs), 0.05 + slack) << prompts << heavy;
      EXPECT_LE(share(apart), 0.05 + slack) << prompts << heavy;
      EXPECT_LE(share(wrongly_same), 0.05 + slack) << prompts << heavy;
    }
  }
}

}  // namespace
}  // namespace kvr::report
