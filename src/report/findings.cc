// The lines on top: alarms, facts, warnings.
#include "findings.h"

#include <spdlog/fmt/fmt.h>

#include "kvr/record/merge.h"
#include "values.h"

namespace kvr::report {
namespace {

std::string Fact(const Json& environment, const char* key) {
  const auto found = environment.find(key);
  if (found == environment.end() || found->is_null()) return "unknown";
  return found->is_string() ? found->get<std::string>() : DumpLine(*found);
}

// The load of the last minute when the run began: its first value, or the only one.
Number LoadOf(const Json& environment) {
  Json load = environment.value("load_average", Json());
  if (load.is_array() && !load.empty()) load = Json(load[0]);
  return load.is_number() ? Number(load.get<double>()) : std::nullopt;
}

// Whether some baseline of the prompt, with the same seed, produced the cell's tokens, as far as
// both go.
bool TokensMatchABaseline(const PromptCells& prompt, const Cell& cell) {
  return std::any_of(prompt.baseline.begin(), prompt.baseline.end(), [&](const Cell* base) {
    return base->seed == cell.seed && !FirstDifference(*base, cell);
  });
}

// What the cells themselves don't allow to be said.
void DescribeGaps(const Scope& scope, Report& report) {
  const std::string at = scope.Title();
  std::int64_t few = 0, other = 0;
  for (const PromptCells& prompt : scope.prompts) {
    other += std::ssize(prompt.other_baseline);
    for (const auto& [variant, cells] : prompt.recycled) {
      const std::int64_t least = std::min(CountIf(cells, IsFull), CountIf(prompt.baseline, IsFull));
      if (!prompt.baseline.empty() && least < std::int64_t{kFewestDecoded}) ++few;
    }
  }
  if (few > 0) {
    report.warnings.push_back(fmt::format(
        "totals are not given {} times: fewer than {} decoded cells of an arm and prompt ({})", few,
        kFewestDecoded, at));
  }
  if (other > 0 && scope.run->schema >= 2) {
    report.warnings.push_back(
        fmt::format("{} baseline cells have another schedule than the run's and are compared with "
                    "nothing ({})",
                    other, at));
  }
  const bool all_control = scope.run->config.value("workload", Json()) == "control";
  for (const std::string& group : scope.controls_with_hits) {
    (all_control ? report.alarms : report.warnings)
        .push_back(std::string("control group \"")
                       .append(group)
                       .append("\" has hits and is not used as a control (")
                       .append(at)
                       .append(")"));
  }
  const auto chat = scope.run->config.find("template");
  for (const Variant& variant : scope.variants) {
    if (variant.match == "whole" && chat != scope.run->config.end() && *chat == "chat" &&
        CountIf(AllRecycledBy(Pointers(scope.prompts), variant), IsHit) == 0) {
      report.warnings.push_back(variant.Title() +
                                " never hits under a chat template: a cached prompt's closing "
                                "tokens are no prefix of another's (" +
                                at + ")");
    }
  }
}

// Where a rule ended the rounds: what it reached, and what more of them would not narrow.
void DescribeRepetitions(const Scope& scope, Report& report) {
  if (scope.info == nullptr) return;
  const Repetitions& own = scope.info->repetitions;
  if (!own.rounds || !own.wanted_width || !own.width) return;
  const bool reached = *own.width <= *own.wanted_width;
  std::string line = fmt::format(
      "{}: {} rounds, {}: their noise leaves the interval of the first way's speed-up {:.1f} % "
      "wide, {:.1f} % were asked",
      scope.Title(), *own.rounds, reached ? "enough" : "the most allowed", 100 * *own.width,
      100 * *own.wanted_width);
  if (!reached) line += "; a quieter machine narrows it, or a larger \"most\"";
  if (own.interval_width && *own.interval_width > *own.wanted_width) {
    line += fmt::format(
        "; the whole interval is {:.1f} % wide, as prompts differ: more prompts narrow that, more "
        "rounds do not",
        100 * *own.interval_width);
  }
  (reached ? report.facts : report.warnings).push_back(std::move(line));
}

// What the cells of a scope contradict, lack or met.
struct Counts {
  std::int64_t broken = 0, contradicting = 0, claimed_unseen = 0, baseline_off = 0;
  std::int64_t other_depth = 0;  // than the workload's arithmetic says
  std::int64_t no_baseline = 0, prompts = 0, unsteady = 0, truncated = 0;
  std::int64_t warm = 0, cold = 0, hits = 0;
};

void CountCells(const Scope& scope, const PromptCells& prompt, const Cells& cells, Counts* counts) {
  // Elsewhere the free baseline's bits may be other than the block schedule's.
  const bool comparable =
      scope.Schedule() == "block" || (scope.info != nullptr && scope.info->probe_exact == true);
  const auto [least, most] = std::minmax_element(
      cells.begin(), cells.end(),
      [](const Cell* a, const Cell* b) { return a->reuse_depth < b->reuse_depth; });
  if ((*least)->reuse_depth != (*most)->reuse_depth) ++counts->unsteady;
  for (const Cell* cell : cells) {
    if (BreaksItsClaim(*cell)) ++counts->broken;
    if (IsExact(*cell) && comparable && !prompt.baseline.empty() &&
        !TokensMatchABaseline(prompt, *cell)) {
      ++counts->contradicting;
    }
    if (cell->hit() && cell->exact_claimed && !IsCompared(*cell)) ++counts->claimed_unseen;
    if (cell->expected_depth && cell->reuse_depth != *cell->expected_depth) ++counts->other_depth;
    if (cell->truncated_tokens > 0) ++counts->truncated;
    if (cell->hit()) ++counts->hits;
    if (cell->page_cache == "warm") ++counts->warm;
    if (cell->page_cache == "cold") ++counts->cold;
  }
}

Counts CountsOf(const Scope& scope) {
  Counts counts;
  for (const PromptCells& prompt : scope.prompts) {
    if (!prompt.recycled.empty()) {
      ++counts.prompts;
      if (prompt.baseline.empty()) ++counts.no_baseline;
    }
    for (const Cells* cells : {&prompt.baseline, &prompt.second}) {
      counts.baseline_off +=
          CountIf(*cells, [](const Cell& c) { return IsCompared(c) && !IsExact(c); });
    }
    for (const auto& [variant, cells] : prompt.recycled) CountCells(scope, prompt, cells, &counts);
  }
  return counts;
}

}  // namespace

void DescribeRun(const Run& run, Report& report) {
  const Json& e = run.environment;
  const Number load = LoadOf(e);
  const std::string done = run.lookups.empty() ? fmt::format("{} cells", run.cells.size())
                                               : fmt::format("{} look-ups", run.lookups.size());
  report.facts.push_back(fmt::format("{}: {}; commit {}, {} build, libtorch {}", run.label, done,
                                     Fact(e, "commit"), Fact(e, "build_type"),
                                     Fact(e, "libtorch_version")));
  std::string device;
  for (const ModelInfo& model : run.models) {
    if (model.device != "cpu" && device.empty()) device = model.device + ", ";
  }
  report.facts.push_back("machine: " + device + Fact(e, "cpu_model") + ", " +
                         Fact(e, "instruction_set") + ", " + Fact(e, "threads") +
                         " threads, host " + Fact(e, "host") + ", load " +
                         (load ? Print("%.2f", *load) : "unknown"));
  report.facts.push_back("started " + run.started.value_or("unknown") + ", " +
                         (run.finished ? "finished " + *run.finished : "UNFINISHED"));
  if (run.merged) {
    report.facts.push_back(
        fmt::format("merged of {} of {} shards", run.merged->shards.size(), run.merged->count));
  }
  if (run.schema < 2) {
    report.facts.push_back(
        "schema 1: the baseline is the scheduled one; each prompt counts as a cluster of its own");
  }
  if (!run.finished) {
    report.warnings.push_back(run.label +
                              ": the run is unfinished; its tables cover what was "
                              "written so far");
  }
  if (run.shard) {
    report.warnings.push_back(fmt::format(
        "{}: the run is shard {}/{}: {} of {} prompts; kvr merge makes one of all", run.label,
        run.shard->index, run.shard->count, run.shard->prompts.size(), run.prompts.size()));
  }
  // What is missing before what may have disturbed the rest: a screen shows the first few.
  for (std::string& line : record::DescribeMerge(run)) report.warnings.push_back(std::move(line));
  if (run.cells.empty() && run.lookups.empty()) {
    report.warnings.push_back(run.label + ": there are no cells");
  }
  const std::string build = Fact(e, "build_type");
  if (build != "Release" && build != "unknown") {
    report.warnings.push_back(run.label + ": a " + build + " build; its times say little");
  }
  const auto threads = e.find("threads");
  if (load && threads != e.end() && threads->is_number() && *load > threads->get<double>()) {
    report.warnings.push_back(run.label + ": the machine was busy when the run began (load " +
                              Print("%.2f", *load) + " for " + DumpLine(*threads) +
                              " threads); run it again on a quiet one before quoting times");
  }
  report.warnings.insert(report.warnings.end(), run.warnings.begin(), run.warnings.end());
  DescribeLoad(run, report);
}

void DescribeScope(const Scope& scope, Report& report) {
  const std::string at = scope.Title();
  if (scope.prompts.empty()) return;  // look-ups alone: no model ran
  if (scope.info != nullptr) {
    std::string line = at + ": ";
    if (scope.info->random_weights) line += "RANDOM WEIGHTS (times count, texts do not); ";
    line += !scope.info->probe_exact   ? "not probed for exact cuts"
            : *scope.info->probe_exact ? "exact at every cut probed"
                                       : "NOT exact inside a block; match whole and token drift";
    if (scope.info->probe_cuts) line += fmt::format(" ({} cuts)", *scope.info->probe_cuts);
    report.facts.push_back(std::move(line));
  } else {
    report.warnings.push_back(at + ": run.json does not describe this model");
  }

  const Counts counts = CountsOf(scope);
  report.facts.push_back(fmt::format(
      "{}: {} prompts, {} hits; files in the page cache {} times, not {} times; the baseline's "
      "schedule is {}",
      at, counts.prompts, counts.hits, counts.warm, counts.cold, scope.Schedule()));
  const auto say = [&](std::vector<std::string>& lines, const char* head, std::int64_t count,
                       const char* what) {
    if (count > 0) lines.push_back(fmt::format("{}{}{} ({})", head, count, what, at));
  };
  say(report.alarms, "EXACTNESS VIOLATED: ", counts.broken,
      " cells claim to be exact and differ from their baseline");
  say(report.alarms, "CONTRADICTION: ", counts.contradicting,
      " cells are recorded as exact, but no baseline of their prompt has their tokens");
  say(report.alarms, "BASELINE NOT REPEATABLE: ", counts.baseline_off,
      " baseline cells differ from the baseline that ran before their prompt's cells");
  say(report.alarms, "ANOTHER DEPTH: ", counts.other_depth,
      " cells reused more or fewer tokens than their workload's arithmetic says");
  say(report.warnings, "", counts.claimed_unseen, " hits claim to be exact and were not compared");
  say(report.warnings, "", counts.no_baseline,
      " prompts have recycled cells and no baseline: no speedup for them");
  say(report.warnings, "", counts.unsteady,
      " times the depth differs between repetitions of a prompt; a frozen cache should not do "
      "that");
  say(report.warnings, "", counts.truncated, " cells had their prompt cut short");
  DescribeRepetitions(scope, report);
  DescribeDisturbances(scope, report);
  DescribeGaps(scope, report);
}

}  // namespace kvr::report
