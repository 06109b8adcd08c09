#include "compare.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <set>

#include "kvr/base/error.h"
#include "kvr/base/json.h"

namespace kvr::report {
namespace {

std::string Describe(const Run& run) {
  const auto said = [&](const char* key) {
    const Json value = run.environment.value(key, Json());
    return value.is_string() ? value.get<std::string>() : DumpLine(value);
  };
  return fmt::format("{} ({}, started {}; commit {}, {}, {}, {} threads)", run.label, run.name,
                     run.started.value_or("at a time not known"), said("commit").substr(0, 12),
                     said("cpu_model"), said("instruction_set"), said("threads"));
}

// A cell's identity, the run's one baseline being the same whichever schedule a run has calibrated
// for it.
std::string MatchedBy(const Cell& cell, const Run& run) {
  Cell key = cell;
  for (const ModelInfo& model : run.models) {
    if (cell.policy == "off" && model.name == cell.model && model.precision == cell.precision &&
        model.baseline_schedule == cell.schedule) {
      key.schedule = "baseline";
    }
  }
  return cell.workload + "\n" + Identity(key);
}

std::string Named(const Cell& cell) {
  return fmt::format("{} {}, repetition {}", cell.prompt_id, WayOf(cell), cell.repetition);
}

// Pairs the cells of both runs, in BASE's order.
std::vector<CellPair> PairCells(const Run& base, const Run& now, Comparison* comparison) {
  std::map<std::string, const Cell*> cells;
  for (const Cell& cell : now.cells) cells.emplace(MatchedBy(cell, now), &cell);
  std::vector<CellPair> pairs;
  std::vector<std::string> lacking;
  for (const Cell& cell : base.cells) {
    const auto found = cells.find(MatchedBy(cell, base));
    if (found == cells.end()) {
      lacking.push_back(Named(cell));
    } else {
      pairs.push_back({&cell, found->second});
    }
  }
  if (!lacking.empty()) {
    const std::string what =
        fmt::format("{} of {} cells of {} are not in {}, the first: {}", lacking.size(),
                    base.cells.size(), base.label, now.label, lacking.front());
    if (!comparison->options.fewer_cells) throw InvalidInput(what);
    comparison->notes.push_back(what);
  }
  if (pairs.empty()) {
    throw InvalidInput(fmt::format("{} and {} have no cell in common", base.label, now.label));
  }
  if (now.cells.size() > pairs.size()) {
    comparison->notes.push_back(fmt::format("{} cells are in NEW alone and compared with nothing",
                                            now.cells.size() - pairs.size()));
  }
  return pairs;
}

// Cells of a model that run.json does not name say nothing of their machine.
void CheckModelsOf(const Run& run) {
  for (const Cell& cell : run.cells) {
    const bool named = std::ranges::any_of(run.models, [&](const ModelInfo& model) {
      return model.name == cell.model && model.precision == cell.precision;
    });
    if (!named) {
      throw InvalidInput(fmt::format("{} can't be compared: it does not describe its model \"{}\"",
                                     run.label, cell.model));
    }
  }
}

void NoteRun(const Run& run, const char* which, std::vector<std::string>* notes) {
  if (!run.finished) notes->push_back(fmt::format("{} is not finished", which));
  for (const std::string& warning : run.warnings) {
    notes->push_back(fmt::format("{}: {}", which, warning));
  }
}

}  // namespace

std::int64_t Comparison::ExactRegressions() const {
  return std::ranges::count_if(changes, &ExactChange::regression);
}
std::int64_t Comparison::SlowerTimes() const {
  return std::ranges::count(times, TimeVerdict::kSlower, &TimeRow::verdict);
}
bool Comparison::Regressed() const { return ExactRegressions() > 0 || SlowerTimes() > 0; }

Comparison Compare(const Run& base, const Run& now, const CompareOptions& options) {
  Comparison comparison;
  comparison.options = options;
  comparison.base = Describe(base);
  comparison.now = Describe(now);
  const std::map<ModelKey, ModelPair> models = PairModels(base, now, &comparison.notes);
  CheckModelsOf(base);
  CheckModelsOf(now);
  if (options.absolute) CheckSameMachine(base, now);
  NoteRun(base, "BASE", &comparison.notes);
  NoteRun(now, "NEW", &comparison.notes);
  const std::vector<CellPair> pairs = PairCells(base, now, &comparison);
  comparison.cells = std::ssize(pairs);
  std::set<ExactCase> cases;
  for (const CellPair& pair : pairs) cases.insert(CaseOf(*pair.now));
  comparison.cases.assign(cases.begin(), cases.end());
  CompareExactly(pairs, models, &comparison);
  CompareTimes(base, now, &comparison);
  return comparison;
}

}  // namespace kvr::report
