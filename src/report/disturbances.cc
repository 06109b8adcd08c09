// Warnings about what disturbed the measurement, each with its threshold and what to do
// (docs/statistics.md, "What disturbs a run").
#include <spdlog/fmt/fmt.h>

#include "findings.h"
#include "kvr/record/holm.h"
#include "values.h"

namespace kvr::report {
namespace {

// A cell that took more than so many times the median of its prompt and arm is an outlier.
constexpr double kOutlier = 2;
// Load: other processes' share of a CPU over the run; or in a cell, and the share of such cells.
constexpr double kOtherCpu = 0.05, kOtherCpuOfCell = 0.10, kBusyCells = 0.05;
constexpr double kSteal = 0.01;  // of the time
// The system counts in ticks of 10 ms, which say nothing of shorter cells; two ticks may be chance.
constexpr double kShortestCellMs = 50, kTwoTicksMs = 20;
// Drift: the least change of the baseline between the halves of a run, and the level of its test.
constexpr double kDrift = 0.03, kDriftLevel = 0.01;
// Less than this share of cells from the wrong place is chance.
constexpr double kMisplaced = 0.05;

// To the first token, or for each token after it.
std::int64_t Outliers(const Cells& cells) {
  const Number ttft = MedianOf(cells, &Cell::ttft_ms);
  const Number decode = MedianOf(cells, &Cell::DecodeMsPerToken);
  return CountIf(cells, [&](const Cell& cell) {
    const Number own = cell.DecodeMsPerToken();
    return cell.ttft_ms > kOutlier * *ttft || (own && *own > kOutlier * *decode);
  });
}

void DescribeOutliers(const Scope& scope, Report& report) {
  std::int64_t outliers = 0, cells = 0;
  const auto count = [&](const Cells& own) {
    outliers += Outliers(own);
    cells += std::ssize(own);
  };
  for (const PromptCells& prompt : scope.prompts) {
    count(prompt.baseline);
    count(prompt.second);
    for (const auto& [variant, own] : prompt.recycled) count(own);
  }
  if (outliers == 0) return;
  report.warnings.push_back(fmt::format(
      "{} outliers among {} cells: above twice the median of their prompt and arm; none is left "
      "out, and medians over three repetitions or more bear one each; where there are many, run "
      "again with more repetitions ({})",
      outliers, cells, scope.Title()));
}

// The log of the baseline's median time to the first token in the second half of the rounds over
// that in the first; a round in the middle is in neither.
Number LaterOverEarlier(const PromptCells& prompt, std::int64_t rounds) {
  const auto half = [&](bool later) {
    return MedianOf(Only(prompt.baseline,
                         [&](const Cell& cell) {
                           return later ? 2 * cell.repetition >= rounds + rounds % 2
                                        : 2 * (cell.repetition + 1) <= rounds;
                         }),
                    &Cell::ttft_ms);
  };
  return Quotient(half(true), half(false));
}

void DescribeDrift(const Scope& scope, Report& report) {
  std::int64_t rounds = 0;
  for (const PromptCells& prompt : scope.prompts) {
    for (const Cell* cell : prompt.baseline) rounds = std::max(rounds, cell->repetition + 1);
  }
  const std::optional<Estimate> drift =
      EstimateOver(Pointers(scope.prompts),
                   [&](const PromptCells& prompt) { return LaterOverEarlier(prompt, rounds); });
  const Number p = drift ? PValue(*drift) : std::nullopt;
  if (!p || *p > kDriftLevel || std::abs(drift->mean) < std::log1p(kDrift)) return;
  report.warnings.push_back(fmt::format(
      "drift: the baseline's first token took {:+.1f} % in the second half of the rounds, against "
      "the first (p {}); arms run by turns, so that speed-ups bear it, but times in ms are of no "
      "one state of the machine: let it warm up, or find what else ran, and run again ({})",
      100 * (drift->ratio() - 1), PValueOf(p).text, scope.Title()));
}

// Cells whose files were not in the memory, or out of it, as their way of reuse asks.
void DescribePageCache(const Scope& scope, Report& report) {
  const auto describe = [&](const char* asked, const char* got, const char* what) {
    std::int64_t known = 0, misplaced = 0;
    for (const Variant& variant : scope.variants) {
      for (const Cell* cell : AllRecycledBy(Pointers(scope.prompts), variant)) {
        if (cell->asked_page_cache != asked || !cell->page_cache) continue;
        ++known;
        misplaced += cell->page_cache == got ? 1 : 0;
      }
    }
    if (misplaced == 0 || static_cast<double>(misplaced) <= kMisplaced * double(known)) return;
    report.warnings.push_back(
        fmt::format("{} of {} hits that asked for {} files were served {}: "
                    "{} ({})",
                    misplaced, known, asked, got, what, scope.Title()));
  };
  describe("cold", "warm",
           "the system did not drop the files, as where they lie in memory or belong to somebody "
           "else; read those rows as warm, or put the run's folder on a disk");
  describe("warm", "cold",
           "the system had dropped the files before it was asked to, as where memory is short; "
           "read those rows as cold, or run again with more free memory");
}

}  // namespace

void DescribeLoad(const Run& run, Report& report) {
  double wall = 0, other = 0, stolen = 0;
  std::int64_t cells = 0, busy = 0;
  for (const Cell& cell : run.cells) {
    if (cell.wall_ms.value_or(0) < kShortestCellMs) continue;
    ++cells;
    wall += *cell.wall_ms;
    other += cell.other_cpu_ms.value_or(0);
    stolen += cell.steal_ms.value_or(0);
    if (cell.other_cpu_ms.value_or(0) > std::max(kTwoTicksMs, kOtherCpuOfCell * *cell.wall_ms)) {
      ++busy;
    }
  }
  if (!(wall > 0)) return;
  if (other > kOtherCpu * wall || static_cast<double>(busy) > kBusyCells * double(cells)) {
    report.warnings.push_back(fmt::format(
        "{}: load during the run: other processes took {:.0f} % of a CPU, and more than "
        "10 % in {} of {} cells; stop them and run again before quoting times",
        run.label, 100 * other / wall, busy, cells));
  }
  if (stolen > kSteal * wall) {
    report.warnings.push_back(run.label + ": the hypervisor took " +
                              Print("%.1f %%", 100 * stolen / wall) +
                              " of the run's time (steal); run again at another hour or on a "
                              "machine of your own before quoting times");
  }
}

void DescribeDisturbances(const Scope& scope, Report& report) {
  DescribeOutliers(scope, report);
  DescribeDrift(scope, report);
  DescribePageCache(scope, report);
}

}  // namespace kvr::report
