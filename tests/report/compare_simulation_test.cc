// False alarms and power of the comparison's times, on simulated pairs of runs of which the truth
// is known, and on halves of a real run. KVR_SIMULATIONS sets how many pairs stand behind each
// line (docs/statistics.md has the tables of 1,000); KVR_AA_RUN names a run's folder of six
// repetitions or more.
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <numbers>
#include <numeric>
#include <random>

#include "compare_fixture.h"
#include "simulated_run.h"

namespace kvr::report {
namespace {

enum class Kind { kLognormal, kHeavy, kRounds };
constexpr const char* kKinds[] = {"lognormal", "heavy-tailed", "by rounds"};

// Of one time, of the kind's own tails.
class PairNoise : public Noise {
 public:
  PairNoise(std::uint64_t seed, Kind kind) : Noise(seed, kind == Kind::kHeavy), kind_(kind) {}
  [[nodiscard]] Kind kind() const { return kind_; }

 private:
  Kind kind_;
};

// A run with noise on every time. Prompts share parents by two; what is odd about a parent in one
// run (where its memory lies, say) moves the times of its reuse by 1 %; by rounds, what else the
// machine does during a round moves each phase of reuse by 5 %, of all prompts alike. `restore` and
// `prefill` take so many times their time.
record::Run Noisy(int prompts, int repetitions, double restore, double prefill, PairNoise* noise) {
  record::Run run = ToyRun("simulated", prompts, repetitions);
  std::vector<double> parents(static_cast<std::size_t>(prompts));
  for (double& effect : parents) effect = std::exp(0.01 * noise->Normal());
  const double by_round = noise->kind() == Kind::kRounds ? 0.05 : 0;
  std::vector<std::array<double, 4>> rounds(static_cast<std::size_t>(repetitions));
  for (auto& round : rounds) {
    for (double& effect : round) effect = std::exp(by_round * noise->Normal());
  }
  for (Cell& cell : run.cells) {
    const int parent = std::stoi(cell.prompt_id.substr(1)) / 2 * 2;
    cell.cached_parent = "p" + std::to_string(parent);
    cell.workload = "g" + std::to_string(parent / 2 % 2);
    cell.prefill_ms *= noise->Factor();
    *cell.decode_ms *= noise->Factor();
    cell.ttft_ms = cell.prefill_ms;
    if (cell.hit()) {
      const double odd = parents[static_cast<std::size_t>(parent)];
      const auto& round = rounds[static_cast<std::size_t>(cell.repetition)];
      *cell.embed_ms *= odd * noise->Factor() * round[0];
      *cell.lookup_ms *= odd * noise->Factor() * round[1];
      cell.restore_ms = 10 * restore * odd * noise->Factor() * round[2];
      cell.prefill_ms *= prefill * odd * round[3];
      cell.ttft_ms = *cell.embed_ms + *cell.lookup_ms + *cell.restore_ms + cell.prefill_ms;
    }
    cell.total_ms = cell.ttft_ms + *cell.decode_ms;
  }
  return run;
}

bool Alarms(const Comparison& comparison) {
  return std::ranges::any_of(comparison.times, [](const TimeRow& row) {
    return row.verdict == TimeVerdict::kSlower || row.verdict == TimeVerdict::kFaster;
  });
}

const TimeRow& RowOf(const Comparison& comparison, const std::string& metric) {
  const auto row = std::ranges::find(comparison.times, metric, &TimeRow::metric);
  if (row == comparison.times.end()) throw std::out_of_range(metric);
  return *row;
}

// Three standard errors of a share among so many pairs: there are a few dozen shares.
double Slack(double share, int pairs) { return 3 * std::sqrt(share * (1 - share) / pairs); }

// Without a threshold, so that the level alone stands against false alarms.
TEST(CompareSimulation, FalseAlarmsKeepTheirLevel) {
  const int pairs = Simulations(400);
  std::printf("| prompts | repetitions | noise | false alarms, threshold 0 | threshold 5 %% |\n");
  for (const auto& [prompts, repetitions] : {std::pair(6, 3), {12, 3}, {12, 5}, {24, 5}}) {
    for (const Kind kind : {Kind::kLognormal, Kind::kHeavy, Kind::kRounds}) {
      int bare = 0, gated = 0;
      for (int i = 0; i < pairs; ++i) {
        PairNoise noise(static_cast<std::uint64_t>(i) * 1000 + static_cast<std::uint64_t>(prompts),
                        kind);
        const record::Run base = Noisy(prompts, repetitions, 1, 1, &noise);
        const record::Run now = Noisy(prompts, repetitions, 1, 1, &noise);
        bare += Alarms(Compare(base, now, {.threshold = 0})) ? 1 : 0;
        gated += Alarms(Compare(base, now, {})) ? 1 : 0;
      }
      const auto share = [&](int count) { return static_cast<double>(count) / pairs; };
      std::printf("| %d | %d | %s | %.3f | %.3f |\n", prompts, repetitions,
                  kKinds[static_cast<int>(kind)], share(bare), share(gated));
      EXPECT_LE(share(bare), 0.05 + Slack(0.05, pairs))
          << prompts << kKinds[static_cast<int>(kind)];
      EXPECT_LE(share(gated), 0.05 + Slack(0.05, pairs))
          << prompts << kKinds[static_cast<int>(kind)];
    }
  }
}

// A phase slowed down by what "could see" says, on average, is found in 80 of 100 pairs; so is one
// of 10 % where that is no more.
TEST(CompareSimulation, ASlowedPhaseIsFoundAsOftenAsItSays) {
  const int pairs = Simulations(200);
  std::printf("| prompts | repetitions | phase | could see | found there | found at 10 %% |\n");
  for (const auto& [prompts, repetitions] : {std::pair(12, 5), {24, 5}, {40, 5}}) {
    for (const std::string phase : {"restore", "prefill"}) {
      const auto pair = [&](int i, double by) {
        PairNoise noise(static_cast<std::uint64_t>(i) * 1000 + static_cast<std::uint64_t>(prompts),
                        Kind::kLognormal);
        const record::Run base = Noisy(prompts, repetitions, 1, 1, &noise);
        const bool restore = phase == "restore";
        return Compare(base,
                       Noisy(prompts, repetitions, restore ? by : 1, restore ? 1 : by, &noise), {});
      };
      const auto found = [&](double by) {
        int count = 0;
        for (int i = 0; i < pairs; ++i) {
          count += RowOf(pair(i, by), phase).verdict == TimeVerdict::kSlower ? 1 : 0;
        }
        return static_cast<double>(count) / pairs;
      };
      double could_see = 0;
      for (int i = 0; i < pairs; ++i) could_see += *RowOf(pair(i, 1), phase).detectable / pairs;
      const double there = found(1 + could_see), at_ten = found(1.10);
      std::printf("| %d | %d | %s | %.1f %% | %.2f | %.2f |\n", prompts, repetitions, phase.c_str(),
                  100 * could_see, there, at_ten);
      EXPECT_GE(there, 0.8 - Slack(0.8, pairs)) << prompts << phase;
      if (could_see <= 0.10) {
        EXPECT_GE(at_ten, 0.8 - Slack(0.8, pairs)) << prompts << phase;
      }
    }
  }
}

// Halves of a long run, drawn by whole rounds, so that what disturbed a round stays together.
TEST(CompareSimulation, HalvesOfARealRunAreAlike) {
  const char* const folder = std::getenv("KVR_AA_RUN");
  if (folder == nullptr) GTEST_SKIP() << "KVR_AA_RUN names no run";
  const record::Run run = ReadRun(folder);
  std::int64_t rounds = 0;
  for (const Cell& cell : run.cells) rounds = std::max(rounds, cell.repetition + 1);
  ASSERT_GE(rounds, 6) << "of fewer repetitions halves are too short";
  std::mt19937_64 random(1);
  const int pairs = Simulations(400);
  int alarms = 0;
  std::vector<std::int64_t> place(static_cast<std::size_t>(rounds));
  std::iota(place.begin(), place.end(), 0);
  for (int i = 0; i < pairs; ++i) {
    std::shuffle(place.begin(), place.end(), random);
    record::Run halves[2] = {run, run};
    for (record::Run& half : halves) half.cells.clear();
    for (Cell cell : run.cells) {
      const std::int64_t at = place[static_cast<std::size_t>(cell.repetition)];
      if (at >= rounds / 2 * 2) continue;  // of an odd number, one round stays out
      cell.repetition = at / 2;
      halves[at % 2].cells.push_back(std::move(cell));
    }
    const Comparison comparison = Compare(halves[0], halves[1], {});
    EXPECT_EQ(comparison.ExactRegressions(), 0);
    alarms += Alarms(comparison) ? 1 : 0;
  }
  std::printf("%d false alarms in %d pairs of halves of %s\n", alarms, pairs, folder);
  EXPECT_LE(static_cast<double>(alarms) / pairs, 0.05 + Slack(0.05, pairs));
}

}  // namespace
}  // namespace kvr::report
