#include "kvr/experiment/shard.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <queue>
#include <utility>

#include "kvr/base/error.h"

namespace kvr::experiment {
namespace {

// Digits alone, `kMostShards` at most.
std::optional<int> Number(const std::string& text) {
  const bool digits = !text.empty() && text.size() <= 7 &&
                      text.find_first_not_of("0123456789") == std::string::npos;
  if (!digits) return std::nullopt;
  const int value = std::stoi(text);
  return value <= kMostShards ? std::optional(value) : std::nullopt;
}

[[noreturn]] void Refuse(const std::string& text, const std::string& what) {
  throw InvalidInput("--shard " + text + ": " + what);
}

int NumberIn(const Environment& environment, const char* name, const std::string& text) {
  const char* const value = environment(name);
  if (value == nullptr) Refuse(text, std::string(name) + " is not set");
  const std::optional<int> number = Number(value);
  if (!number) Refuse(text, fmt::format("{} is \"{}\", expected a number", name, value));
  return *number;
}

// The number of shards of a Slurm array. Of a part of it that is sent once more nobody but the user
// knows of how many it is.
int CountOfArray(const Environment& environment, const std::string& text) {
  const int count = NumberIn(environment, "SLURM_ARRAY_TASK_COUNT", text);
  const int least = NumberIn(environment, "SLURM_ARRAY_TASK_MIN", text);
  const int most = NumberIn(environment, "SLURM_ARRAY_TASK_MAX", text);
  if (least != 0 || most != count - 1) {
    Refuse(text, fmt::format("the array has {} tasks from {} to {}, which are not 0 to N - 1; say "
                             "of how many shards they are: --shard auto/N",
                             count, least, most));
  }
  return count;
}

// The index and, where it is told, the number of shards, of the scheduler whose task this is.
std::pair<int, std::optional<int>> AskScheduler(const Environment& environment,
                                                const std::string& text, bool wants_count) {
  constexpr const char* kSlurm = "SLURM_ARRAY_TASK_ID";
  constexpr const char* kKubernetes = "JOB_COMPLETION_INDEX";
  const bool slurm = environment(kSlurm) != nullptr;
  const bool kubernetes = environment(kKubernetes) != nullptr;
  if (slurm && kubernetes) {
    Refuse(text, fmt::format("both {} and {} are set; give --shard i/N", kSlurm, kKubernetes));
  }
  if (slurm) {
    const int index = NumberIn(environment, kSlurm, text);
    if (!wants_count) return {index, std::nullopt};
    return {index, CountOfArray(environment, text)};
  }
  if (!kubernetes) {
    Refuse(text, fmt::format("found neither {} nor {}; give --shard i/N", kSlurm, kKubernetes));
  }
  if (wants_count) Refuse(text, "Kubernetes does not say of how many: --shard auto/N");
  return {NumberIn(environment, kKubernetes, text), std::nullopt};
}

}  // namespace

Shard ParseShard(const std::string& text, const Environment& environment) {
  const std::size_t slash = text.find('/');
  const bool has_count = slash != std::string::npos;
  const std::string index = text.substr(0, slash);
  std::optional<int> first, count;
  if (has_count) {
    count = Number(text.substr(slash + 1));
    if (!count) {
      Refuse(text,
             fmt::format("expected a number of shards from 1 to {} behind the \"/\"", kMostShards));
    }
  }
  if (index == "auto") {
    const auto [number, of] = AskScheduler(environment, text, !has_count);
    first = number;
    if (!has_count) count = of;
  } else if (has_count) {
    first = Number(index);
  }
  if (!first || !count) Refuse(text, "expected i/N, such as 0/4, auto or auto/N");
  if (*count < 1) Refuse(text, "there must be one shard at least");
  if (*first >= *count) {
    Refuse(text,
           fmt::format("{} shards are counted from 0 to {}, found {}", *count, *count - 1, *first));
  }
  return {*first, *count};
}

const std::string& UnitOf(const TestPrompt& prompt) {
  return prompt.session ? *prompt.session : prompt.id;
}

std::vector<Unit> UnitsOf(const Config& config, int count) {
  std::vector<Unit> units;
  std::map<std::string, std::size_t> places;
  std::uint64_t bytes = 0;
  for (std::size_t i = 0; i < config.test_prompts.size(); ++i) {
    const std::string& name = UnitOf(config.test_prompts[i]);
    const auto [place, fresh] = places.emplace(name, units.size());
    if (fresh) units.push_back({.name = name});
    units[place->second].prompts.push_back(i);
    bytes += config.test_prompts[i].text.size();
  }
  if (units.empty()) return units;
  // A byte more, so that nothing is without weight.
  const std::uint64_t mean = bytes / config.test_prompts.size() + 1;
  std::vector<std::pair<std::uint64_t, Unit*>> by_size;
  for (Unit& unit : units) {
    std::uint64_t size = 0;
    for (const std::size_t prompt : unit.prompts) {
      size += config.test_prompts[prompt].text.size() + mean;
    }
    by_size.emplace_back(size, &unit);
  }
  std::stable_sort(by_size.begin(), by_size.end(),
                   [](const auto& a, const auto& b) { return a.first > b.first; });
  using Load = std::pair<std::uint64_t, int>;  // of a shard: what it has, its index
  std::vector<Load> loads;
  loads.reserve(static_cast<std::size_t>(count));
  for (int index = 0; index < count; ++index) loads.emplace_back(0, index);
  std::priority_queue least(std::greater<Load>(), std::move(loads));
  for (const auto& [size, unit] : by_size) {
    const auto [load, index] = least.top();
    least.pop();
    unit->shard = index;
    least.emplace(load + size, index);
  }
  return units;
}

std::vector<bool> PromptsOf(const Config& config, const Shard& shard) {
  std::vector<bool> prompts(config.test_prompts.size());
  for (const Unit& unit : UnitsOf(config, shard.count)) {
    for (const std::size_t prompt : unit.prompts) prompts[prompt] = unit.shard == shard.index;
  }
  return prompts;
}

std::int64_t CellsPerModel(const Config& config, const std::vector<bool>& prompts) {
  return std::count(prompts.begin(), prompts.end(), true) * CellsPerPrompt(config);
}

record::ShardInfo Describe(const Config& config, const Shard& shard) {
  const std::vector<bool> prompts = PromptsOf(config, shard);
  record::ShardInfo info{
      .index = shard.index,
      .count = shard.count,
      .cells = CellsPerModel(config, prompts) * static_cast<std::int64_t>(config.models.size())};
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    if (prompts[i]) info.prompts.push_back(config.test_prompts[i].id);
  }
  return info;
}

}  // namespace kvr::experiment
