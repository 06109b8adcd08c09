// Times, judged by ratios within each run and, where asked for, as they are.
#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cmath>
#include <iterator>

#include "compare.h"
#include "kvr/base/error.h"
#include "kvr/record/holm.h"

namespace kvr::report {
namespace {

// A time of one prompt's cells, and the same run's time that it is measured by. `recycled` are the
// cells of one way of reuse.
struct Metric {
  const char* name;
  bool of_baseline;  // of no way of reuse
  Number (*own)(const PromptCells& prompt, const Cells& recycled);
  Number (*by)(const PromptCells& prompt, const Cells& recycled);
  const Metric* of_a_round = nullptr;  // in its place within one repetition
};

template <auto Member>
Number Own(const PromptCells&, const Cells& recycled) {
  return MedianOf(recycled, Member);
}
Number Baseline(const PromptCells& prompt, const Cells&) { return BaselineTtft(prompt); }
Number BaselineDecode(const PromptCells& prompt, const Cells&) {
  return MedianOf(prompt.baseline, &Cell::DecodeMsPerToken);
}
Number TotalOf(const PromptCells& prompt, const Cells& recycled, double Totals::*arm) {
  const std::optional<Totals> totals = TotalsOf(prompt.baseline, recycled);
  return totals ? Number((*totals).*arm) : std::nullopt;
}

// Of one repetition there are no totals over enough cells; how far rounds are apart is seen all the
// same.
constexpr Metric kTotalOfARound = {
    "total", false, Own<&Cell::total_ms>,
    [](const PromptCells& p, const Cells&) { return MedianOf(p.baseline, &Cell::total_ms); }};

constexpr Metric kMetrics[] = {
    {"ttft", false, Own<&Cell::ttft_ms>, Baseline},
    {"total", false,
     [](const PromptCells& p, const Cells& c) { return TotalOf(p, c, &Totals::recycled_ms); },
     [](const PromptCells& p, const Cells& c) { return TotalOf(p, c, &Totals::baseline_ms); },
     &kTotalOfARound},
    {"embed", false, Own<&Cell::embed_ms>, Baseline},
    {"lookup", false, Own<&Cell::lookup_ms>, Baseline},
    {"restore", false, Own<&Cell::restore_ms>, Baseline},
    {"prefill", false, Own<&Cell::prefill_ms>, Baseline},
    {"decode", false, Own<&Cell::DecodeMsPerToken>, Baseline},
    {"baseline", true, Baseline, BaselineDecode},
};

std::vector<const Metric*> Chosen(const CompareOptions& options) {
  std::vector<const Metric*> chosen;
  for (const std::string& name : options.metrics) {
    if (std::ranges::none_of(kMetrics, [&](const Metric& m) { return name == m.name; })) {
      throw InvalidInput(fmt::format("metric \"{}\", expected one of {}", Shortened(name, 60),
                                     fmt::join(MetricNames(), ", ")));
    }
  }
  for (const Metric& metric : kMetrics) {
    if (options.metrics.empty() || std::ranges::count(options.metrics, metric.name) > 0) {
      chosen.push_back(&metric);
    }
  }
  return chosen;
}

// Prompts that both runs have, of one model.
struct PromptPair {
  const PromptCells* base;
  const PromptCells* now;
};
struct ScopePair {
  const Scope* base;
  const Scope* now;
  std::vector<PromptPair> prompts;
};

std::vector<ScopePair> PairScopes(const std::vector<Scope>& base, const std::vector<Scope>& now) {
  std::vector<ScopePair> pairs;
  for (const Scope& scope : base) {
    const auto other = std::ranges::find_if(now, [&](const Scope& candidate) {
      return candidate.model == scope.model && candidate.precision == scope.precision;
    });
    if (other == now.end()) continue;
    ScopePair& pair = pairs.emplace_back(ScopePair{&scope, &*other, {}});
    std::map<std::pair<std::string, std::string>, const PromptCells*> by_name;
    for (const PromptCells& prompt : other->prompts) {
      by_name[{prompt.workload, prompt.id}] = &prompt;
    }
    for (const PromptCells& prompt : scope.prompts) {
      const auto found = by_name.find({prompt.workload, prompt.id});
      if (found != by_name.end()) pair.prompts.push_back({&prompt, found->second});
    }
  }
  return pairs;
}

// The metric of one prompt, of `variant` or, where there is none, of the baseline.
Number ValueOf(const PromptCells& prompt, const Variant* variant, const Metric& metric,
               bool absolute) {
  static const Cells none;
  const Cells& cells = variant == nullptr ? none : RecycledBy(prompt, *variant);
  const Number own = metric.own(prompt, cells);
  return absolute ? own : Quotient(own, metric.by(prompt, cells));
}

// The prompt's cells of one repetition.
PromptCells InRound(const PromptCells& prompt, const Variant* variant, std::int64_t round) {
  const auto in_round = [&](const Cell& cell) { return cell.repetition == round; };
  PromptCells one;
  one.baseline = Only(prompt.baseline, in_round);
  if (variant != nullptr) one.recycled[*variant] = Only(RecycledBy(prompt, *variant), in_round);
  return one;
}

// How uncertain a run's mean over prompts is by what moves all prompts of a round alike.
struct RoundNoise {
  double variance = 0, df = 0;
};

// A round's move is the median over prompts of how far they are from their own medians over
// rounds. One round tells nothing.
RoundNoise NoiseOfRounds(const std::vector<const PromptCells*>& prompts, const Variant* variant,
                         const Metric& metric, bool absolute) {
  const Metric& of_a_round = metric.of_a_round == nullptr ? metric : *metric.of_a_round;
  std::map<std::int64_t, Samples> moves;
  for (const PromptCells* prompt : prompts) {
    std::set<std::int64_t> rounds;
    for (const Cell* cell : prompt->baseline) rounds.insert(cell->repetition);
    std::map<std::int64_t, double> logs;
    Samples all;
    for (const std::int64_t round : rounds) {
      const Number value = ValueOf(InRound(*prompt, variant, round), variant, of_a_round, absolute);
      if (value.value_or(0) > 0) all.push_back(logs[round] = std::log(*value));
    }
    for (const auto& [round, value] : logs) moves[round].push_back(value - *Median(all));
  }
  Samples rounds;
  for (const auto& [round, sample] : moves) rounds.push_back(*Median(sample));
  if (rounds.size() < 2) return {};
  const double count = static_cast<double>(rounds.size()), mean = *Mean(rounds);
  double squares = 0;
  for (const double move : rounds) squares += (move - mean) * (move - mean);
  return {squares / (count - 1) / count, count - 1};
}

// The estimate, made as uncertain as the rounds of both runs are, where that is more than prompts
// show.
void WidenByRounds(const RoundNoise& base, const RoundNoise& now, Estimate* estimate) {
  const double variance = base.variance + now.variance;
  if (!(estimate->df > 0) || !(variance > estimate->standard_error * estimate->standard_error)) {
    return;
  }
  double spread = 0;
  for (const RoundNoise& run : {base, now}) {
    if (run.df > 0) spread += run.variance * run.variance / run.df;
  }
  estimate->standard_error = std::sqrt(variance);
  estimate->df = variance * variance / spread;
}

struct Judged {
  TimeRow row;
  std::optional<Estimate> estimate;
};

Judged RowOf(const ScopePair& scopes, const Variant* variant, const Metric& metric, bool absolute) {
  std::vector<Observation> observations;
  std::vector<const PromptCells*> base, now;
  for (const PromptPair& prompt : scopes.prompts) {
    const Number was = ValueOf(*prompt.base, variant, metric, absolute);
    const Number is = ValueOf(*prompt.now, variant, metric, absolute);
    if (was.value_or(0) > 0 && is.value_or(0) > 0) {
      observations.push_back({prompt.base->workload, prompt.base->cluster, std::log(*is / *was)});
      base.push_back(prompt.base);
      now.push_back(prompt.now);
    }
  }
  Judged judged;
  judged.estimate = StratifiedMean(observations);
  if (judged.estimate) {
    WidenByRounds(NoiseOfRounds(base, variant, metric, absolute),
                  NoiseOfRounds(now, variant, metric, absolute), &*judged.estimate);
  }
  TimeRow& row = judged.row;
  row.model = scopes.base->model;
  row.precision = scopes.base->precision;
  row.way = variant == nullptr ? "baseline" : variant->Title();
  row.metric = metric.name;
  row.absolute = absolute;
  if (judged.estimate) {
    row.prompts = judged.estimate->prompts;
    row.clusters = judged.estimate->clusters;
    row.ratio = judged.estimate->ratio();
    row.interval = judged.estimate->RatioInterval();
  }
  return judged;
}

// Holm's correction goes over all rows that can be judged.
void Judge(const CompareOptions& options, std::vector<Judged>* rows) {
  std::vector<Judged*> able;
  std::vector<double> p_values;
  for (Judged& one : *rows) {
    if (!one.estimate || !(one.estimate->df > 0)) continue;
    able.push_back(&one);
    p_values.push_back(PValue(*one.estimate).value());
  }
  const std::vector<double> adjusted = HolmAdjusted(p_values);
  const double least = std::log1p(options.threshold);
  for (std::size_t i = 0; i < able.size(); ++i) {
    TimeRow& row = able[i]->row;
    const Estimate& estimate = *able[i]->estimate;
    row.p = adjusted[i];
    row.detectable = std::expm1(
        DetectableLogRatio(estimate, options.level / static_cast<double>(able.size()), least));
    const bool real = adjusted[i] <= options.level;
    row.verdict = real && estimate.mean > least    ? TimeVerdict::kSlower
                  : real && estimate.mean < -least ? TimeVerdict::kFaster
                                                   : TimeVerdict::kSteady;
  }
}

std::vector<const Variant*> VariantsOf(const ScopePair& scopes) {
  std::vector<const Variant*> variants;
  for (const Variant& variant : scopes.base->variants) {
    if (std::ranges::count(scopes.now->variants, variant) > 0) variants.push_back(&variant);
  }
  return variants;
}

}  // namespace

std::vector<std::string> MetricNames() {
  std::vector<std::string> names;
  for (const Metric& metric : kMetrics) names.emplace_back(metric.name);
  return names;
}

void CompareTimes(const Run& base, const Run& now, Comparison* comparison) {
  const CompareOptions& options = comparison->options;
  const std::vector<const Metric*> metrics = Chosen(options);
  if (!options.times) return;
  const std::vector<Scope> was = ScopesOf({&base, 1}), is = ScopesOf({&now, 1});
  std::vector<Judged> rows;
  for (const ScopePair& scopes : PairScopes(was, is)) {
    for (const bool absolute : {false, true}) {
      if (absolute && !options.absolute) continue;
      for (const Metric* metric : metrics) {
        std::vector<const Variant*> variants = {nullptr};
        if (!metric->of_baseline) variants = VariantsOf(scopes);
        for (const Variant* variant : variants) {
          Judged judged = RowOf(scopes, variant, *metric, absolute);
          // A phase that the way of reuse does not have makes no row.
          if (judged.estimate) rows.push_back(std::move(judged));
        }
      }
    }
  }
  Judge(options, &rows);
  for (Judged& judged : rows) comparison->times.push_back(std::move(judged.row));
}

}  // namespace kvr::report
