#include "kvr/experiment/schedule.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <random>
#include <string>

#include "shuffle.h"

namespace kvr::experiment {
namespace {

std::vector<std::size_t> ShuffledPrompts(const Config& config, std::mt19937_64* random) {
  std::vector<std::size_t> order(config.test_prompts.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  Shuffle(&order, random);
  return order;
}

}  // namespace

std::vector<CellPlan> PlansOf(const Config& config, bool free) {
  std::vector<CellPlan> plans = {
      {.free = free, .goes_on = true},
      {.free = free, .control = true, .goes_on = true},
      {.arm = engine::Arm::kRecycled,
       .free = free,
       .goes_on = true,
       .reuse = {.policy = engine::Policy::kOff, .codec = config.codecs[0]}}};
  for (const engine::Reuse& reuse : config.reuses) {
    const bool first = plans.size() == 3;
    plans.push_back({.arm = engine::Arm::kRecycled, .goes_on = first, .reuse = reuse});
  }
  return plans;
}

std::vector<Step> RoundOf(const Config& config, bool free, int round) {
  std::mt19937_64 random(config.sampling.seed * 1000003 + static_cast<std::uint64_t>(round));
  std::vector<Step> steps;
  for (const std::size_t prompt : ShuffledPrompts(config, &random)) {
    std::vector<CellPlan> plans = PlansOf(config, free);
    Shuffle(&plans, &random);
    for (const CellPlan& plan : plans) steps.push_back({prompt, plan});
  }
  return steps;
}

std::vector<Step> WarmUpOf(const Config& config, bool free) {
  std::mt19937_64 random(config.sampling.seed + 1);
  std::vector<std::size_t> order = ShuffledPrompts(config, &random);
  order.resize(std::min(order.size(), static_cast<std::size_t>(config.warmups)));
  std::vector<Step> steps;
  for (const std::size_t prompt : order) {
    for (const CellPlan& plan : PlansOf(config, free)) steps.push_back({prompt, plan});
  }
  return steps;
}

std::vector<bool> LongPrompts(const Config& config) {
  std::vector<bool> is_long(config.test_prompts.size(), !config.long_prompts.has_value());
  if (!config.long_prompts) return is_long;
  std::mt19937_64 random(config.sampling.seed);
  std::map<std::string, std::vector<std::size_t>> groups;
  for (const std::size_t prompt : ShuffledPrompts(config, &random)) {
    const std::string& group = config.test_prompts[prompt].group;
    const auto& controls = config.control_groups;
    if (std::find(controls.begin(), controls.end(), group) == controls.end()) {
      groups[group].push_back(prompt);
    }
  }
  int left = *config.long_prompts;
  for (bool any = true; any && left > 0;) {
    any = false;
    for (auto& [group, prompts] : groups) {
      if (prompts.empty() || left == 0) continue;
      is_long[prompts.back()] = any = true;
      prompts.pop_back();
      --left;
    }
  }
  return is_long;
}

std::int64_t CellsPerPrompt(const Config& config) {
  return static_cast<std::int64_t>(PlansOf(config, false).size()) * config.repetitions;
}

std::int64_t CellsPerModel(const Config& config) {
  return static_cast<std::int64_t>(config.test_prompts.size()) * CellsPerPrompt(config);
}

void Describe(const CellPlan& plan, record::Cell* cell) {
  cell->arm = engine::ToString(plan.arm);
  cell->schedule = plan.free ? "free" : "block";
  cell->control = plan.control;
  cell->policy = engine::ToString(plan.reuse.policy);
  if (plan.arm == engine::Arm::kBaseline) cell->policy = "off";
  if (cell->policy == "off") return;
  cell->match = cache::ToString(plan.reuse.match);
  cell->codec = cache::ToString(plan.reuse.codec);
  cell->asked_page_cache = plan.reuse.cold ? "cold" : "warm";
  if (plan.reuse.policy.by_similarity) cell->candidates = plan.reuse.candidates;
}

}  // namespace kvr::experiment
