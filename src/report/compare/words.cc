// A comparison in sentences and tables.
#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <set>

#include "../values.h"
#include "formats.h"

namespace kvr::report {
namespace {

bool IsImprovement(const ExactChange& change) { return !change.regression; }

std::string SignedShare(double ratio) { return Print("%+.1f %%", 100 * (ratio - 1)); }

// Of a few noisy repetitions it may be astronomical.
std::string CouldSee(double detectable) {
  return detectable > 10 ? "over 1000 %" : Print("%.1f %%", 100 * detectable);
}

std::string NameOf(const TimeRow& row) {
  return fmt::format("{}, {}{}", row.way, row.metric, row.absolute ? " (absolute)" : "");
}

// The row for which `value` is least, or greatest, of those that have one.
const TimeRow* Extreme(const std::vector<TimeRow>& rows, bool greatest) {
  const TimeRow* found = nullptr;
  for (const TimeRow& row : rows) {
    if (!row.detectable) continue;
    if (found == nullptr || (*row.detectable > *found->detectable) == greatest) found = &row;
  }
  return found;
}

void SayTimes(const Comparison& comparison, Report* report) {
  const CompareOptions& options = comparison.options;
  if (!options.times) {
    report->claims.emplace_back("Times were not compared, as was asked for.");
    return;
  }
  const auto judged = std::ranges::count_if(
      comparison.times, [](const TimeRow& row) { return row.verdict != TimeVerdict::kNotJudged; });
  const auto left_out = std::ssize(comparison.times) - judged;
  report->claims.push_back(fmt::format(
      "{} times judged: {} slower, {} faster. A change counts beyond {} and where it is no chance: "
      "if nothing changed, one is reported in {:.3g} of 100 comparisons at most (Holm).",
      judged, comparison.SlowerTimes(),
      std::ranges::count(comparison.times, TimeVerdict::kFaster, &TimeRow::verdict),
      Print("%.3g %%", 100 * options.threshold), 100 * options.level));
  const TimeRow *const best = Extreme(comparison.times, false), *const worst =
                                                                    Extreme(comparison.times, true);
  if (best != nullptr) {
    report->claims.push_back(fmt::format(
        "So many prompts and repetitions would have found, in 80 of 100 such pairs of runs, a "
        "slowdown of {} ({}) at best, and of {} ({}) at worst; column \"could see\".",
        CouldSee(*best->detectable), NameOf(*best), CouldSee(*worst->detectable), NameOf(*worst)));
  }
  if (left_out > 0 || comparison.times.empty()) {
    report->warnings.push_back(fmt::format(
        "{} times can't be judged: fewer than {} independent prompts (clusters) have them",
        comparison.times.empty() ? "the" : std::to_string(left_out), kFewestClusters));
  }
}

Table ExactTable(const Comparison& comparison) {
  Table table{"exact",
              "What is not as it was",
              "Each cell is compared with BASE's of the same prompt, way of reuse and repetition.",
              {{"change", "change", false},
               {"model", "model", false},
               {"precision", "prec.", false},
               {"prompt_id", "prompt", false},
               {"way", "way", false},
               {"field", "field", false},
               {"was", "was", true},
               {"is", "is", true},
               {"cells", "cells", true}},
              {}};
  for (const ExactChange& change : comparison.changes) {
    table.rows.push_back({Text(change.regression ? "regression" : "improvement"),
                          Text(change.of.model), Text(change.of.precision), Text(change.of.prompt),
                          Text(change.of.way), Text(change.field), Text(change.was),
                          Text(change.is), Count(std::ssize(change.repetitions))});
  }
  return table;
}

Table TimeTable(const Comparison& comparison) {
  Table table{"times",
              "Times",
              "change: NEW over BASE, geometric mean over prompts; of a ratio of one run's times "
              "(over its baseline's time to the first token; total: over the baseline's; baseline: "
              "the baseline's time to the first token over its decoding per token), or of the time "
              "itself (absolute). low, high: 95 % interval of this row alone. p: of no change, by "
              "Holm over all rows. could see: the smallest slowdown found in 80 of 100 such pairs "
              "of runs.",
              {{"model", "model", false},
               {"precision", "prec.", false},
               {"way", "way", false},
               {"metric", "metric", false},
               {"kind", "kind", false},
               {"change", "change"},
               {"low", "low"},
               {"high", "high"},
               {"p", "p"},
               {"could_see", "could see"},
               {"prompts", "prompts"},
               {"clusters", "clusters"},
               {"verdict", "verdict", false}},
              {}};
  for (const TimeRow& row : comparison.times) {
    const auto end = [&](double record::Interval::*which) {
      return row.interval ? SignedPercent((*row.interval).*which - 1) : Value{};
    };
    table.rows.push_back(
        {Text(row.model), Text(row.precision), Text(row.way), Text(row.metric),
         Text(row.absolute ? "absolute" : "ratio"),
         row.ratio ? SignedPercent(*row.ratio - 1) : Value{}, end(&record::Interval::low),
         end(&record::Interval::high), Formatted("%.2g", row.p),
         row.detectable ? Value{CouldSee(*row.detectable), *row.detectable} : Value{},
         Count(static_cast<std::int64_t>(row.prompts)),
         Count(static_cast<std::int64_t>(row.clusters)), Text(ToString(row.verdict))});
  }
  return table;
}

// Models, precisions and kinds that are the same in all rows are for programs.
void MarkConstants(Table* table) {
  for (std::size_t i = 0; i < table->columns.size(); ++i) {
    const std::string& key = table->columns[i].key;
    if (key != "model" && key != "precision" && key != "kind") continue;
    std::set<std::string> values;
    for (const auto& row : table->rows) values.insert(row[i].text);
    table->columns[i].constant = values.size() < 2;
  }
}

}  // namespace

std::string ToString(TimeVerdict verdict) {
  switch (verdict) {
    case TimeVerdict::kSteady:
      return "ok";
    case TimeVerdict::kSlower:
      return "slower";
    case TimeVerdict::kFaster:
      return "faster";
    case TimeVerdict::kNotJudged:
      return "not judged";
  }
  return "";
}

std::string Said(const ExactChange& change) {
  std::string out = fmt::format("{}, {}", change.of.prompt, change.of.way);
  if (!change.repetitions.empty()) {
    out += fmt::format(", repetition{} {}", change.repetitions.size() > 1 ? "s" : "",
                       fmt::join(change.repetitions, ", "));
  }
  return fmt::format("{}: {} is {}, was {}", out, change.field, change.is, change.was);
}

std::string Said(const TimeRow& row) {
  std::string out = NameOf(row) + ": ";
  if (!row.ratio) return out + "not measured";
  out += SignedShare(*row.ratio);
  if (!row.interval || !row.p) return out + ", too few independent prompts to judge";
  return out + fmt::format(" (95 %: {} to {}; p {}; could see {})", SignedShare(row.interval->low),
                           SignedShare(row.interval->high), Print("%.2g", *row.p),
                           CouldSee(row.detectable.value_or(0)));
}

Report InWords(const Comparison& comparison) {
  Report report;
  report.facts = {"BASE: " + comparison.base, "NEW:  " + comparison.now};
  for (const ExactChange& change : comparison.changes) {
    if (change.regression) report.alarms.push_back("regression: " + Said(change));
  }
  for (const TimeRow& row : comparison.times) {
    if (row.verdict == TimeVerdict::kSlower) report.alarms.push_back("slower: " + Said(row));
  }
  report.claims.push_back(fmt::format("{} cells compared exactly: {} regressions, {} improvements.",
                                      comparison.cells, comparison.ExactRegressions(),
                                      std::ranges::count_if(comparison.changes, IsImprovement)));
  SayTimes(comparison, &report);
  report.warnings.insert(report.warnings.begin(), comparison.notes.begin(), comparison.notes.end());
  for (const Table& table : {ExactTable(comparison), TimeTable(comparison)}) {
    if (table.rows.empty()) continue;
    report.tables.push_back(table);
    MarkConstants(&report.tables.back());
  }
  return report;
}

}  // namespace kvr::report
