#include "kvr/experiment/stopping.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "kvr/experiment/schedule.h"
#include "kvr/record/repetitions.h"
#include "kvr/record/statistics.h"

namespace kvr::experiment {
namespace {

bool Contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// Whether the cell ran in the way that `way` describes.
bool Ran(const record::Cell& cell, record::Cell way) {
  way.prompt_id = cell.prompt_id;
  way.repetition = cell.repetition;
  return Identity(cell) == Identity(way);
}

}  // namespace

Stopping::Stopping(const Config& config, const record::ModelInfo& model)
    : config_(config), model_(model.name), precision_(model.precision) {
  const bool all_controls = std::ranges::all_of(config.test_prompts, [&](const TestPrompt& prompt) {
    return Contains(config.control_groups, prompt.group);
  });
  if (!all_controls) controls_ = config.control_groups;
  const std::vector<CellPlan> plans = PlansOf(config, model.baseline_schedule == "free");
  const auto first_reuse = std::ranges::find_if(plans, [](const CellPlan& plan) {
    return plan.arm == engine::Arm::kRecycled && plan.reuse.policy != engine::Policy::kOff;
  });
  Describe(plans.front(), &baseline_);
  Describe(first_reuse == plans.end() ? plans.front() : *first_reuse, &recycled_);
  for (record::Cell* const way : {&baseline_, &recycled_}) {
    way->model = model.name;
    way->precision = model.precision;
  }
}

void Stopping::Add(const record::Cell& cell) {
  if (Contains(controls_, cell.workload)) return;
  const bool baseline = Ran(cell, baseline_);
  if (!baseline && !Ran(cell, recycled_)) return;
  Times& times = times_[cell.prompt_id];
  times.group = cell.workload;
  times.cluster = ClusterOf(cell);
  (baseline ? times.baseline_ms : times.recycled_ms)[cell.repetition] = cell.ttft_ms;
}

record::Repetitions Stopping::After(int rounds) const {
  std::vector<std::vector<double>> log_speedups;
  std::vector<record::Observation> observations;
  for (const auto& [id, times] : times_) {
    std::vector<double> logs, baseline_ms, recycled_ms;
    for (const auto& [round, ms] : times.baseline_ms) {
      const auto own = times.recycled_ms.find(round);
      if (round >= rounds || own == times.recycled_ms.end()) continue;
      if (!(ms > 0) || !(own->second > 0)) continue;
      baseline_ms.push_back(ms);
      recycled_ms.push_back(own->second);
      logs.push_back(std::log(ms / own->second));
    }
    if (logs.empty()) continue;
    observations.push_back(
        {times.group, times.cluster,
         std::log(record::Median(baseline_ms).value() / record::Median(recycled_ms).value())});
    log_speedups.push_back(std::move(logs));
  }
  record::Repetitions result{.rounds = rounds, .wanted_width = config_.until_width};
  result.width = record::RepetitionWidth(log_speedups);
  if (const auto whole = record::StratifiedMean(observations)) {
    if (const auto interval = whole->LogInterval(0.95)) {
      result.interval_width = std::expm1(interval->high - interval->low);
    }
  }
  if (!config_.until_width) {
    if (rounds >= config_.repetitions) result.stopped_by = "fixed";
  } else if (rounds >= config_.least_repetitions && result.width &&
             *result.width <= *config_.until_width) {
    result.stopped_by = "width";
  } else if (rounds >= config_.repetitions) {
    result.stopped_by = "most";
  }
  return result;
}

}  // namespace kvr::experiment
