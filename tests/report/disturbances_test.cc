// What disturbs a run is said, at the threshold and not below it.
#include <cmath>

#include "../../src/report/tables/tables.h"
#include "report_fixture.h"
#include "simulated_run.h"

namespace kvr::report {
namespace {

std::vector<Json> Busy(int cells, const Json& changes, int busy, const Json& of_busy) {
  std::vector<Json> lines;
  for (int i = 0; i < cells; ++i) {
    lines.push_back(Base("t1", i, 100, {{"wall_ms", 1000}, {"other_cpu_ms", 0}, {"steal_ms", 0}}));
    lines.back().update(changes);
    if (i < busy) lines.back().update(of_busy);
  }
  return lines;
}

TEST_F(ReportTest, LoadIsSaidAboveFivePercentOfTheRunOrOfItsCells) {
  EXPECT_TRUE(ReportOf(Busy(20, {{"other_cpu_ms", 50}}, 0, Json::object())).warnings.empty());
  EXPECT_TRUE(Says(ReportOf(Busy(20, {{"other_cpu_ms", 51}}, 0, Json::object())).warnings,
                   "took 5 % of a CPU, and more than 10 % in 0 of 20 cells; stop them"));
  EXPECT_TRUE(ReportOf(Busy(40, Json::object(), 2, {{"other_cpu_ms", 101}})).warnings.empty());
  EXPECT_TRUE(Says(ReportOf(Busy(40, Json::object(), 3, {{"other_cpu_ms", 101}})).warnings,
                   "more than 10 % in 3 of 40 cells"));
}

TEST_F(ReportTest, StealTimeIsSaidAboveOnePercent) {
  EXPECT_TRUE(ReportOf(Busy(20, {{"steal_ms", 10}}, 0, Json::object())).warnings.empty());
  EXPECT_TRUE(Says(ReportOf(Busy(20, {{"steal_ms", 11}}, 0, Json::object())).warnings,
                   "the hypervisor took 1.1 % of the run's time (steal); run again"));
}

// Ticks of 10 ms say nothing of cells of a few, and nothing is said of what was not measured.
TEST_F(ReportTest, LoadOfShortOrUnmeasuredCellsIsNotJudged) {
  EXPECT_TRUE(ReportOf(Busy(20, {{"wall_ms", 49}, {"other_cpu_ms", 40}}, 0, Json::object()))
                  .warnings.empty());
  EXPECT_TRUE(
      ReportOf(Busy(20, {{"other_cpu_ms", nullptr}, {"steal_ms", nullptr}}, 0, Json::object()))
          .warnings.empty());
}

TEST_F(ReportTest, OutliersAreCountedAndKept) {
  std::vector<Json> cells = {Base("t1", 0, 100), Base("t1", 1, 100), Base("t1", 2, 200)};
  EXPECT_TRUE(ReportOf(cells).warnings.empty());  // twice is not above twice
  cells[2]["ttft_ms"] = 201;
  const Report report = ReportOf(cells);
  EXPECT_TRUE(Says(report.warnings, "1 outliers among 3 cells"));
  EXPECT_TRUE(Says(report.warnings, "none is left out"));
  EXPECT_EQ(Row(report, "phases", {{"workload", "extends"}}).at("cells"), 3);
  EXPECT_EQ(Row(report, "percentiles", {{"workload", "extends"}, {"phase", "TTFT"}}).at("max_ms"),
            201);
}

// Six prompts and `rounds` rounds; each round of a later half takes `later` times as long, and a
// prompt's change differs from the others' by `spread`.
std::vector<Json> Drifting(int rounds, double later, double spread) {
  std::vector<Json> cells;
  for (int prompt = 0; prompt < 6; ++prompt) {
    const std::string id = "t" + std::to_string(prompt);
    for (int i = 0; i < rounds; ++i) {
      const double own = prompt % 2 == 0 ? 1 + spread : 1 - spread;
      cells.push_back(Base(id.c_str(), i, 2 * i >= rounds ? 100 * later * own : 100));
    }
  }
  return cells;
}

TEST_F(ReportTest, DriftIsSaidWhenItIsBothLargeAndSure) {
  const auto says = [&](const std::vector<Json>& cells) {
    return Says(ReportOf(cells).warnings, "drift: ");
  };
  EXPECT_TRUE(says(Drifting(4, 1.04, 0.005)));
  EXPECT_TRUE(says(Drifting(4, 1 / 1.04, 0.005)));  // a machine that gets faster drifts too
  EXPECT_FALSE(says(Drifting(4, 1.025, 0.005)));    // sure, but small
  EXPECT_FALSE(says(Drifting(4, 1.05, 0.06)));      // large, but not sure
  EXPECT_FALSE(says(Drifting(1, 1.5, 0.005)));      // no two halves
  EXPECT_TRUE(Says(ReportOf(Drifting(4, 1.04, 0)).warnings,
                   "took +4.0 % in the second half of the rounds, against the first (p <0.001)"));
}

TEST_F(ReportTest, TheRoundInTheMiddleIsInNeitherHalf) {
  std::vector<Json> cells = Drifting(3, 1, 0);
  for (Json& cell : cells) {
    if (cell.at("repetition") == 1) cell["ttft_ms"] = 190;
  }
  EXPECT_FALSE(Says(ReportOf(cells).warnings, "drift"));
}

// Quiet runs of 3 % noise, and runs whose later half takes 8 % longer.
TEST(Simulation, DriftIsRarelySaidOfQuietRunsAndMostlyOfThoseThatDrift) {
  const int runs = Simulations(200);
  std::printf("| prompts | rounds | noise | said of quiet runs | said of 8 %% |\n");
  for (const int prompts : {4, 8, 34}) {
    for (const int rounds : {3, 10}) {
      for (const bool heavy : {false, true}) {
        double quiet = 0, drifting = 0;
        for (int i = 0; i < runs; ++i) {
          Noise noise(static_cast<std::uint64_t>(i) * 100 + static_cast<std::uint64_t>(prompts),
                      heavy);
          for (const double later : {1.0, 1.08}) {
            record::Run run = RunOf("run");
            for (int prompt = 0; prompt < prompts; ++prompt) {
              const std::string id = std::to_string(prompt);
              for (int round = 0; round < rounds; ++round) {
                const double state = 2 * round >= rounds ? later : 1;
                run.cells.push_back(CellOf("g", id, id, round, 100 * state * noise.Factor()));
              }
            }
            const Report report = BuildReport({&run, 1}, std::span<const TableKind>());
            (later > 1 ? drifting : quiet) += Says(report.warnings, "drift") ? 1.0 / runs : 0;
          }
        }
        std::printf("| %d | %d | %s | %.4f | %.2f |\n", prompts, rounds,
                    heavy ? "heavy-tailed" : "lognormal", quiet, drifting);
        EXPECT_LE(quiet, 0.01 + 3 * std::sqrt(0.01 * 0.99 / runs)) << prompts << rounds << heavy;
        if (prompts == 34 && !heavy) {
          EXPECT_GE(drifting, 0.95);
        }
      }
    }
  }
}

std::vector<Json> Hits(int count, int misplaced, const char* asked, const char* got) {
  std::vector<Json> cells = {Base("t1", 0, 100)};
  for (int i = 0; i < count; ++i) {
    cells.push_back(
        Recycled("t1", i, 40, 60,
                 {{"asked_page_cache", asked}, {"page_cache", i < misplaced ? got : asked}}));
  }
  return cells;
}

TEST_F(ReportTest, FilesThatWereNotWhereTheCellAskedAreSaid) {
  EXPECT_TRUE(Says(ReportOf(Hits(20, 2, "cold", "warm")).warnings,
                   "2 of 20 hits that asked for cold files were served warm: the system did not "
                   "drop the files"));
  EXPECT_TRUE(Says(ReportOf(Hits(20, 2, "warm", "cold")).warnings,
                   "2 of 20 hits that asked for warm files were served cold"));
  EXPECT_FALSE(Says(ReportOf(Hits(20, 1, "cold", "warm")).warnings, "hits that asked"));
  EXPECT_FALSE(Says(ReportOf(Hits(20, 0, "cold", "warm")).warnings, "hits that asked"));
  // A run of before, which does not say what was asked, and a system that does not tell.
  for (const char* unknown : {"asked_page_cache", "page_cache"}) {
    std::vector<Json> cells = Hits(20, 20, "cold", "warm");
    for (Json& cell : cells) cell[unknown] = nullptr;
    EXPECT_FALSE(Says(ReportOf(cells).warnings, "hits that asked")) << unknown;
  }
}

}  // namespace
}  // namespace kvr::report
