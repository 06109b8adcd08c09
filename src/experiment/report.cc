#include "kvr/experiment/report.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <sstream>
#include <stdexcept>
#include <tuple>
#include <utility>

#include "kvr/base/error.h"
#include "kvr/cache/codec.h"
#include "kvr/experiment/statistics.h"

namespace kvr::experiment {
namespace {

using Cells = std::vector<const Cell*>;
using Samples = std::vector<double>;
using Number = std::optional<double>;

// ---- The cells in order: scope (run, model, precision), prompt, arm ----

// How the recycled arm ran.
struct Variant {
  std::string policy;
  std::optional<std::string> match;
  std::string codec;
  auto operator<=>(const Variant&) const = default;
};

struct Best {
  double ttft_ms = 0;
  bool free = false;
};

struct Prompt {
  std::string workload, id;
  bool control_group = false;  // its workload shares nothing with the cache
  std::int64_t tokens = 0;
  Cells scheduled;  // the baseline in blocks
  Cells free;       // the baseline with the best chunking
  Cells second;     // the baseline in blocks once more, for the control line
  std::map<Variant, Cells> recycled;
};

struct Scope {
  const Run* run = nullptr;
  std::string model, precision;
  const ModelInfo* info = nullptr;  // null when run.json does not name the model
  std::vector<Prompt> prompts;
  std::vector<Variant> variants;

  [[nodiscard]] std::string Title() const {
    return run->label + ", " + model + " (" + precision + ")";
  }
};

// Prompts that an aggregate row is about.
struct Cohort {
  std::string label;
  std::vector<const Prompt*> prompts;
};

// The numbers of `cells` for which `field`, a member or a function of a Cell, gives one.
template <typename Field>
Samples Collect(const Cells& cells, Field field) {
  Samples samples;
  for (const Cell* cell : cells) {
    const Number value = std::invoke(field, *cell);
    if (value) samples.push_back(*value);
  }
  return samples;
}

template <typename Field>
Number MedianOf(const Cells& cells, Field field) {
  return Median(Collect(cells, field));
}

template <typename Predicate>
std::int64_t CountIf(const Cells& cells, Predicate predicate) {
  return std::count_if(cells.begin(), cells.end(),
                       [&](const Cell* cell) { return predicate(*cell); });
}

template <typename Predicate>
Cells Only(const Cells& cells, Predicate predicate) {
  Cells kept;
  for (const Cell* cell : cells) {
    if (predicate(*cell)) kept.push_back(cell);
  }
  return kept;
}

bool IsFull(const Cell& cell) { return cell.full; }
bool IsHit(const Cell& cell) { return cell.hit(); }
bool IsCompared(const Cell& cell) { return cell.fidelity.has_value(); }
bool IsExact(const Cell& cell) { return cell.fidelity && cell.fidelity->exact; }
bool HasSameTokens(const Cell& cell) {
  return cell.fidelity && !cell.fidelity->first_divergence.has_value();
}
bool HasZeroDifference(const Cell& cell) {
  return cell.fidelity && cell.fidelity->max_abs_logit_diff == 0.0;
}
// The cell was said to be exact, and something in its record says that it was not.
bool BreaksItsClaim(const Cell& cell) {
  return cell.exact_claimed && cell.fidelity &&
         (!cell.fidelity->exact || !HasSameTokens(cell) ||
          cell.fidelity->max_abs_logit_diff.value_or(0.0) != 0.0);
}

// A number of the cell's fidelity; nothing where the cell was not compared.
auto OfFidelity(Number Fidelity::*member) {
  return [member](const Cell& cell) { return cell.fidelity ? (*cell.fidelity).*member : Number(); };
}

// Of a recycled cell or of what an entry's saving cost. Before there were others, it was fp32.
template <typename T>
std::string CodecOf(const T& record) {
  return record.codec.value_or("fp32");
}

Number Depth(const Cell& cell) { return static_cast<double>(cell.reuse_depth); }

Number Quotient(Number numerator, Number denominator) {
  if (!numerator || !denominator || !(*denominator > 0)) return std::nullopt;
  return *numerator / *denominator;
}
Number Quotient(std::int64_t numerator, std::int64_t denominator) {
  return Quotient(Number(static_cast<double>(numerator)), Number(static_cast<double>(denominator)));
}

const Cells& RecycledBy(const Prompt& prompt, const Variant& variant) {
  static const Cells none;
  const auto found = prompt.recycled.find(variant);
  return found == prompt.recycled.end() ? none : found->second;
}

Cells AllRecycledBy(const std::vector<const Prompt*>& prompts, const Variant& variant) {
  Cells all;
  for (const Prompt* prompt : prompts) {
    const Cells& cells = RecycledBy(*prompt, variant);
    all.insert(all.end(), cells.begin(), cells.end());
  }
  return all;
}

std::vector<const Prompt*> Pointers(const std::vector<Prompt>& prompts) {
  std::vector<const Prompt*> pointers;
  pointers.reserve(prompts.size());
  for (const Prompt& prompt : prompts) pointers.push_back(&prompt);
  return pointers;
}

// The faster of the two baselines, by their medians.
std::optional<Best> BestBaseline(const Prompt& prompt) {
  const Number scheduled = MedianOf(prompt.scheduled, &Cell::ttft_ms);
  const Number free = MedianOf(prompt.free, &Cell::ttft_ms);
  if (free && (!scheduled || *free < *scheduled)) return Best{*free, true};
  if (scheduled) return Best{*scheduled, false};
  return std::nullopt;
}

Number BestTtft(const Prompt& prompt) {
  const std::optional<Best> best = BestBaseline(prompt);
  return best ? Number(best->ttft_ms) : std::nullopt;
}

Number TtftSpeedup(const Prompt& prompt, const Cells& cells) {
  return Quotient(BestTtft(prompt), MedianOf(cells, &Cell::ttft_ms));
}

// The free baseline stops at the first token. Where it is the faster one, the scheduled baseline's
// decoding, which is the same work, is added to its time.
Number BaselineTotal(const Prompt& prompt) {
  const Cells full = Only(prompt.scheduled, IsFull);
  const std::optional<Best> best = BestBaseline(prompt);
  if (!best || !best->free) return MedianOf(full, &Cell::total_ms);
  const Number decode = MedianOf(full, &Cell::decode_ms);
  return decode ? Number(best->ttft_ms + *decode) : std::nullopt;
}

Number RecycledTotal(const Cells& cells) { return MedianOf(Only(cells, IsFull), &Cell::total_ms); }

// The codec's place in reports; one that this program does not know comes last.
std::size_t CodecRank(const std::string& codec) {
  const auto found = std::find_if(cache::kCodecs.begin(), cache::kCodecs.end(),
                                  [&](cache::Codec c) { return codec == cache::ToString(c); });
  return static_cast<std::size_t>(found - cache::kCodecs.begin());
}

// A sweep writes its cells in random order. Here: prompts by their ids, t2 before t10; embedding
// before prefix; whole, token, block; codecs from exact to coarse.
void SortScope(Scope* scope) {
  std::sort(scope->prompts.begin(), scope->prompts.end(), [](const Prompt& a, const Prompt& b) {
    return std::tuple(a.id.size(), a.id, a.workload) < std::tuple(b.id.size(), b.id, b.workload);
  });
  std::sort(scope->variants.begin(), scope->variants.end(), [](const Variant& a, const Variant& b) {
    return std::tuple(a.policy, b.match, CodecRank(a.codec), a.codec) <
           std::tuple(b.policy, a.match, CodecRank(b.codec), b.codec);
  });
}

std::vector<Scope> ScopesOf(std::span<const Run> runs) {
  std::vector<Scope> scopes;
  for (const Run& run : runs) {
    const std::size_t first = scopes.size();
    std::map<std::pair<std::string, std::string>, std::size_t> scope_at;
    std::map<std::tuple<std::size_t, std::string, std::string>, std::size_t> prompt_at;
    for (const Cell& cell : run.cells) {
      const auto [scope_slot, new_scope] =
          scope_at.try_emplace({cell.model, cell.precision}, scopes.size() - first);
      if (new_scope) {
        scopes.push_back({&run, cell.model, cell.precision, nullptr, {}, {}});
        for (const ModelInfo& info : run.models) {
          if (info.name == cell.model && info.precision == cell.precision) {
            scopes.back().info = &info;
          }
        }
      }
      Scope& scope = scopes[first + scope_slot->second];
      const auto [prompt_slot, new_prompt] = prompt_at.try_emplace(
          {scope_slot->second, cell.workload, cell.prompt_id}, scope.prompts.size());
      if (new_prompt) {
        Prompt& prompt = scope.prompts.emplace_back();
        prompt.workload = cell.workload;
        prompt.id = cell.prompt_id;
        prompt.tokens = cell.prompt_tokens;
        prompt.control_group = std::find(run.control_groups.begin(), run.control_groups.end(),
                                         cell.workload) != run.control_groups.end();
      }
      Prompt& prompt = scope.prompts[prompt_slot->second];
      if (cell.recycled()) {
        const Variant variant{cell.policy, cell.match, CodecOf(cell)};
        if (std::find(scope.variants.begin(), scope.variants.end(), variant) ==
            scope.variants.end()) {
          scope.variants.push_back(variant);
        }
        prompt.recycled[variant].push_back(&cell);
      } else if (cell.control) {
        prompt.second.push_back(&cell);
      } else {
        (cell.schedule == "free" ? prompt.free : prompt.scheduled).push_back(&cell);
      }
    }
    for (std::size_t i = first; i < scopes.size(); ++i) SortScope(&scopes[i]);
  }
  return scopes;
}

// One cohort per workload, in the order of their first prompts, and all workloads but the control
// groups.
std::vector<Cohort> CohortsOf(const Scope& scope) {
  std::vector<Cohort> cohorts;
  Cohort rest{"all but control", {}};
  for (const Prompt& prompt : scope.prompts) {
    auto found = std::find_if(cohorts.begin(), cohorts.end(),
                              [&](const Cohort& c) { return c.label == prompt.workload; });
    if (found == cohorts.end()) found = cohorts.insert(found, {prompt.workload, {}});
    found->prompts.push_back(&prompt);
    if (!prompt.control_group) rest.prompts.push_back(&prompt);
  }
  if (!rest.prompts.empty()) cohorts.push_back(std::move(rest));
  return cohorts;
}

// ---- Values ----

std::string Print(const char* format, double number) {
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), format, number);
  return text.data();
}

Value Text(const std::optional<std::string>& text) { return text ? Value{*text, *text} : Value{}; }
Value Count(std::int64_t count) { return {std::to_string(count), count}; }
Value Formatted(const char* format, Number number, double factor = 1) {
  return number ? Value{Print(format, *number * factor), *number} : Value{};
}
// Three digits that say something, as no clock here is better than that.
Value Ms(Number ms) {
  const double size = std::abs(ms.value_or(0));
  if (size > 0 && size < 0.1) return Formatted("%.2g", ms);
  return Formatted(size < 10 ? "%.2f" : size < 100 ? "%.1f" : "%.0f", ms);
}
Value Times(Number ratio) { return Formatted("%.2fx", ratio); }
Value Small(Number number) { return Formatted("%.3g", number); }
Value Percent(Number share) { return Formatted("%.1f%%", share, 100); }
Value SignedPercent(Number share) { return Formatted("%+.1f%%", share, 100); }
// "39 of 40", because 39999 of 40000 would be rounded to 100 %. Raw: the share.
Value Rate(std::int64_t count, std::int64_t of) {
  if (of == 0) return {};
  return {std::to_string(count) + " of " + std::to_string(of), *Quotient(count, of)};
}
std::pair<Value, Value> Ends(const std::optional<Interval>& interval) {
  if (!interval) return {};
  return {Times(interval->low), Times(interval->high)};
}

// ---- Tables ----

// A table whose rows begin with run, model and precision.
class Builder {
 public:
  // `columns`: keys with a space between them; "<" before a key aligns its column left, and a head
  // that is not the key follows it after a colon, with "_" for a space.
  Builder(std::string name, std::string title, const std::string& columns, std::string note) {
    table_.name = std::move(name);
    table_.title = std::move(title);
    table_.note = std::move(note);
    std::istringstream words("<run <model <precision:prec. " + columns);
    for (std::string word; words >> word;) {
      const bool left = word.front() == '<';
      if (left) word.erase(0, 1);
      const std::size_t colon = word.find(':');
      Column column{word.substr(0, colon), word.substr(colon == std::string::npos ? 0 : colon + 1)};
      std::replace(column.head.begin(), column.head.end(), '_', ' ');
      column.right = !left;
      table_.columns.push_back(std::move(column));
    }
  }
  void Row(const Scope& scope, std::vector<Value> values) {
    std::vector<Value> row = {Text(scope.run->label), Text(scope.model), Text(scope.precision)};
    row.insert(row.end(), values.begin(), values.end());
    if (row.size() != table_.columns.size()) throw std::logic_error(table_.name + ": columns");
    table_.rows.push_back(std::move(row));
  }
  Table Finish() { return std::move(table_); }

 private:
  Table table_;
};

// Calls `row` with scope, cohort, variant and the cohort's cells of that variant, if any.
template <typename F>
void ForEachGroup(const std::vector<Scope>& scopes, F row) {
  for (const Scope& scope : scopes) {
    for (const Cohort& cohort : CohortsOf(scope)) {
      for (const Variant& variant : scope.variants) {
        const Cells cells = AllRecycledBy(cohort.prompts, variant);
        if (!cells.empty()) row(scope, cohort, variant, cells);
      }
    }
  }
}

// The mean of `member`, a likeness of texts, over the cells where texts mean something; where none
// does, the reason.
Value Semantic(const Cells& cells, Number Fidelity::*member) {
  Samples samples;
  std::optional<std::string> reason;
  for (const Cell* cell : cells) {
    if (!cell->fidelity) continue;
    if (cell->fidelity->semantic.value_or("measured") != "measured") {
      reason = cell->fidelity->semantic;
    } else if ((*cell->fidelity).*member) {
      samples.push_back(*((*cell->fidelity).*member));
    }
  }
  return samples.empty() ? Text(reason) : Formatted("%.3f", Mean(samples));
}

Table PromptTable(const std::vector<Scope>& scopes) {
  Builder table(
      "prompts", "Each prompt",
      "<prompt_id:prompt <workload <policy <match <codec prompt_tokens:tokens "
      "reuse_depth:depth similarity:sim. baseline_ttft_ms:base_TTFT <baseline:which "
      "recycled_ttft_ms:rec._TTFT ttft_speedup:speedup baseline_total_ms:base_total "
      "recycled_total_ms:rec._total total_speedup:speedup output_cosine:out._sim. "
      "<exact <limited_by",
      "Times in ms, medians over repetitions; TTFT of the recycled arm includes embedding, "
      "lookup and restore. base TTFT: the faster of the scheduled baseline (block) and the "
      "one with the best chunking (free), by their medians; the column after it says which. "
      "Totals: cells that were decoded to the end; where the free baseline is the faster, "
      "its TTFT plus the scheduled baseline's decoding. sim.: cosine of the prompt and the "
      "entry found. out. sim.: mean cosine of the output text and the baseline's. exact: all "
      "logits and tokens of every compared repetition equal the baseline's bit for bit.");
  for (const Scope& scope : scopes) {
    for (const Prompt& prompt : scope.prompts) {
      for (const Variant& variant : scope.variants) {
        const Cells& cells = RecycledBy(prompt, variant);
        if (cells.empty()) continue;
        const std::optional<Best> best = BestBaseline(prompt);
        const Number base_total = BaselineTotal(prompt);
        const Number total = RecycledTotal(cells);
        const std::int64_t compared = CountIf(cells, IsCompared);
        Value exact;
        if (compared > 0) {
          const bool all = CountIf(cells, IsExact) == compared;
          exact = {all ? "yes" : "no", all};
        }
        table.Row(
            scope,
            {Text(prompt.id), Text(prompt.workload), Text(variant.policy), Text(variant.match),
             Text(variant.codec), Count(prompt.tokens), Formatted("%.0f", MedianOf(cells, Depth)),
             Formatted("%.3f", MedianOf(cells, &Cell::similarity)), Ms(BestTtft(prompt)),
             best ? Text(best->free ? "free" : "block") : Value{},
             Ms(MedianOf(cells, &Cell::ttft_ms)), Times(TtftSpeedup(prompt, cells)), Ms(base_total),
             Ms(total), Times(Quotient(base_total, total)), Semantic(cells, &Fidelity::cosine),
             exact, Text(cells.front()->limited_by)});
      }
    }
  }
  return table.Finish();
}

Table SpeedTable(const std::vector<Scope>& scopes) {
  Builder table(
      "workloads", "Speed by workload",
      "<workload <policy <match <codec prompts cells hits hit_depth_mean:depth "
      "reused_share:reused ttft_speedup:speedup ttft_speedup_low:low "
      "ttft_speedup_high:high ttft_speedup_of_hits:of_hits total_speedup:total "
      "total_speedup_low:low total_speedup_high:high",
      "speedup: geometric mean over prompts, hits and misses alike, of the faster baseline's "
      "median TTFT over the recycled median TTFT; low and high: its 95 % bootstrap "
      "percentile interval, whole prompts resampled 2,000 times (none for fewer than six "
      "prompts). of hits: the same over prompts that were hit. total: the same for the time "
      "to the last token, of cells decoded to the end. hits: cells. depth: mean over hits. "
      "reused: restored tokens among all prompt tokens. The control groups are those that "
      "the configuration names.");
  ForEachGroup(scopes, [&](const Scope& scope, const Cohort& cohort, const Variant& variant,
                           const Cells& cells) {
    Samples ttft, ttft_of_hits, total;
    std::int64_t prompts = 0, depth = 0, tokens = 0;
    for (const Cell* cell : cells) {
      depth += cell->reuse_depth;
      tokens += cell->prompt_tokens;
    }
    for (const Prompt* prompt : cohort.prompts) {
      const Cells& own = RecycledBy(*prompt, variant);
      if (own.empty()) continue;
      ++prompts;
      if (const Number ratio = TtftSpeedup(*prompt, own)) {
        ttft.push_back(*ratio);
        if (CountIf(own, IsHit) > 0) ttft_of_hits.push_back(*ratio);
      }
      if (const Number ratio = Quotient(BaselineTotal(*prompt), RecycledTotal(own))) {
        total.push_back(*ratio);
      }
    }
    const auto [low, high] = Ends(BootstrapInterval(ttft, GeometricMean));
    const auto [total_low, total_high] = Ends(BootstrapInterval(total, GeometricMean));
    table.Row(
        scope,
        {Text(cohort.label), Text(variant.policy), Text(variant.match), Text(variant.codec),
         Count(prompts), Count(std::ssize(cells)), Count(CountIf(cells, IsHit)),
         Formatted("%.1f", Mean(Collect(Only(cells, IsHit), Depth))),
         Percent(Quotient(depth, tokens)), Times(GeometricMean(ttft)), low, high,
         Times(GeometricMean(ttft_of_hits)), Times(GeometricMean(total)), total_low, total_high});
  });
  return table.Finish();
}

Table FidelityTable(const std::vector<Scope>& scopes) {
  Builder table(
      "fidelity", "Fidelity by workload",
      "<workload <policy <match <codec cells compared exact_share:exact "
      "max_abs_logit_diff:max_abs_diff kl_mean:mean_KL kl_max:max_KL top1:top-1 "
      "output_cosine:cosine rouge_l:ROUGE-L",
      "Recycled cells, hits and misses, against the baseline that ran before their prompt's "
      "cells. exact: all logits and tokens equal bit for bit. max abs diff: the greatest absolute "
      "difference "
      "of any logit. mean KL, top-1 (share of steps where both have the same most likely "
      "token), cosine and ROUGE-L: means over cells; KL in nats along the baseline's tokens.");
  ForEachGroup(scopes, [&](const Scope& scope, const Cohort& cohort, const Variant& variant,
                           const Cells& cells) {
    const std::int64_t compared = CountIf(cells, IsCompared);
    table.Row(scope,
              {Text(cohort.label), Text(variant.policy), Text(variant.match), Text(variant.codec),
               Count(std::ssize(cells)), Count(compared), Rate(CountIf(cells, IsExact), compared),
               Small(Quantile(Collect(cells, OfFidelity(&Fidelity::max_abs_logit_diff)), 1)),
               Small(Mean(Collect(cells, OfFidelity(&Fidelity::kl_mean)))),
               Small(Quantile(Collect(cells, OfFidelity(&Fidelity::kl_max)), 1)),
               Formatted("%.4f", Mean(Collect(cells, OfFidelity(&Fidelity::top1)))),
               Semantic(cells, &Fidelity::cosine), Semantic(cells, &Fidelity::rouge_l)});
  });
  return table.Finish();
}

Table PhaseTable(const std::vector<Scope>& scopes) {
  Builder table(
      "phases", "Where the time goes",
      "<workload <policy <match <codec cells embed_median_ms:embed embed_p95_ms:p95 "
      "lookup_median_ms:lookup lookup_p95_ms:p95 restore_median_ms:restore restore_p95_ms:p95 "
      "prefill_median_ms:prefill prefill_p95_ms:p95 ttft_median_ms:TTFT ttft_p95_ms:p95 "
      "decode_per_token_median_ms:decode/tok decode_per_token_p95_ms:p95",
      "Median and 95th percentile over cells (type 7; below 21 cells it lies between the two "
      "largest), in ms. Rows \"baseline block\" and \"baseline free\" are the baselines with the "
      "block schedule and with the best chunking. decode/tok: decoding over new tokens less one.");
  for (const Scope& scope : scopes) {
    for (const Cohort& cohort : CohortsOf(scope)) {
      const auto row = [&](const std::string& policy, const std::optional<std::string>& match,
                           const std::optional<std::string>& codec, const Cells& cells) {
        if (cells.empty()) return;
        std::vector<Value> values = {Text(cohort.label), Text(policy), Text(match), Text(codec),
                                     Count(std::ssize(cells))};
        for (const Samples& phase :
             {Collect(cells, &Cell::embed_ms), Collect(cells, &Cell::lookup_ms),
              Collect(cells, &Cell::restore_ms), Collect(cells, &Cell::prefill_ms),
              Collect(cells, &Cell::ttft_ms), Collect(cells, &Cell::DecodeMsPerToken)}) {
          values.push_back(Ms(Median(phase)));
          values.push_back(Ms(P95(phase)));
        }
        table.Row(scope, std::move(values));
      };
      Cells scheduled, free;
      for (const Prompt* prompt : cohort.prompts) {
        scheduled.insert(scheduled.end(), prompt->scheduled.begin(), prompt->scheduled.end());
        free.insert(free.end(), prompt->free.begin(), prompt->free.end());
      }
      row("baseline", "block", std::nullopt, scheduled);
      row("baseline", "free", std::nullopt, free);
      for (const Variant& variant : scope.variants) {
        row(variant.policy, variant.match, variant.codec, AllRecycledBy(cohort.prompts, variant));
      }
    }
  }
  return table.Finish();
}

// Of each prompt, all runs of its scheduled baseline, second runs included.
template <typename Field>
std::vector<Samples> BaselineRuns(const std::vector<const Prompt*>& prompts, Field field) {
  std::vector<Samples> runs;
  for (const Prompt* prompt : prompts) {
    runs.push_back(Collect(prompt->scheduled, field));
    const Samples second = Collect(prompt->second, field);
    runs.back().insert(runs.back().end(), second.begin(), second.end());
  }
  return runs;
}

// The median of |a - b| / ((a + b) / 2) over all pairs of runs of one prompt's baseline.
Number PairDifference(const std::vector<Samples>& baseline_runs) {
  Samples differences;
  for (const Samples& runs : baseline_runs) {
    for (std::size_t i = 0; i < runs.size(); ++i) {
      for (std::size_t j = 0; j < i; ++j) {
        const Number difference =
            Quotient(Number(std::abs(runs[i] - runs[j])), Number((runs[i] + runs[j]) / 2));
        if (difference) differences.push_back(*difference);
      }
    }
  }
  return Median(differences);
}

Table ControlTable(const std::vector<Scope>& scopes) {
  Builder table(
      "no_overlap", "Control: prompts without any overlap",
      "<policy <match <codec prompts cells hits same_tokens_share:same_tokens "
      "baseline_prefill_ms:prefill_base recycled_prefill_ms:rec. "
      "prefill_difference:diff. prefill_noise:noise "
      "baseline_decode_per_token_ms:decode/tok_base recycled_decode_per_token_ms:rec. "
      "decode_difference:diff. decode_noise:noise overhead_ms:embed+lookup "
      "overhead_share:of_TTFT",
      "Workloads that the configuration names as control groups: recycling has nothing to "
      "give there and must take nothing but embedding and lookup. Times in ms, medians over "
      "cells; the baseline is the scheduled one. diff.: median over prompts of the recycled "
      "median over the baseline median, less 1. noise: the noise floor, which the same median "
      "over as many prompts stays below in 95 of 100 cases when both runs are baselines. same "
      "tokens: of the compared cells.");
  for (const Scope& scope : scopes) {
    std::vector<const Prompt*> prompts = Pointers(scope.prompts);
    std::erase_if(prompts, [](const Prompt* prompt) { return !prompt->control_group; });
    Cells base;
    for (const Prompt* prompt : prompts) {
      base.insert(base.end(), prompt->scheduled.begin(), prompt->scheduled.end());
    }
    const Number prefill_noise = NoiseFloor(BaselineRuns(prompts, &Cell::prefill_ms));
    const Number decode_noise = NoiseFloor(BaselineRuns(prompts, &Cell::DecodeMsPerToken));
    for (const Variant& variant : scope.variants) {
      const Cells cells = AllRecycledBy(prompts, variant);
      if (cells.empty()) continue;
      const auto difference = [&](auto field) {
        Samples samples;
        for (const Prompt* prompt : prompts) {
          const Number ratio = Quotient(MedianOf(RecycledBy(*prompt, variant), field),
                                        MedianOf(prompt->scheduled, field));
          if (ratio) samples.push_back(*ratio - 1);
        }
        return Median(samples);
      };
      const auto overhead = [](const Cell& cell) -> Number {
        if (!cell.embed_ms && !cell.lookup_ms) return std::nullopt;
        return cell.embed_ms.value_or(0) + cell.lookup_ms.value_or(0);
      };
      const auto overhead_share = [&](const Cell& cell) {
        return Quotient(overhead(cell), Number(cell.ttft_ms));
      };
      const auto with_cells = [&](const Prompt* p) { return !RecycledBy(*p, variant).empty(); };
      table.Row(scope,
                {Text(variant.policy), Text(variant.match), Text(variant.codec),
                 Count(std::count_if(prompts.begin(), prompts.end(), with_cells)),
                 Count(std::ssize(cells)), Count(CountIf(cells, IsHit)),
                 Rate(CountIf(cells, HasSameTokens), CountIf(cells, IsCompared)),
                 Ms(MedianOf(base, &Cell::prefill_ms)), Ms(MedianOf(cells, &Cell::prefill_ms)),
                 SignedPercent(difference(&Cell::prefill_ms)), Percent(prefill_noise),
                 Ms(MedianOf(base, &Cell::DecodeMsPerToken)),
                 Ms(MedianOf(cells, &Cell::DecodeMsPerToken)),
                 SignedPercent(difference(&Cell::DecodeMsPerToken)), Percent(decode_noise),
                 Ms(MedianOf(cells, overhead)), Percent(MedianOf(cells, overhead_share))});
    }
  }
  return table.Finish();
}

Table BaselineTable(const std::vector<Scope>& scopes) {
  Builder table(
      "baselines", "Control: baseline against baseline",
      "prompts cells compared exact_share:exact max_abs_logit_diff:max_abs_diff "
      "kl_mean:mean_KL ttft_ratio:TTFT_ratio ttft_ratio_low:low ttft_ratio_high:high "
      "total_ratio pair_difference:pair_diff.",
      "The scheduled baseline run a second time in the same sweep, against the first. "
      "Exactness and logits: every scheduled baseline, against the one that ran before the "
      "prompt's cells. Ratios: geometric mean "
      "over prompts of the first's median time over the second's, of the repetitions that have "
      "both, with the 95 % bootstrap interval over prompts; a speedup inside it is none. pair "
      "diff.: median absolute relative difference of TTFT between two baseline runs of a prompt.");
  for (const Scope& scope : scopes) {
    Cells second, compared;
    Samples ttft, total;
    std::int64_t prompts = 0;
    for (const Prompt& prompt : scope.prompts) {
      second.insert(second.end(), prompt.second.begin(), prompt.second.end());
      for (const Cells* cells : {&prompt.scheduled, &prompt.second}) {
        const Cells own = Only(*cells, IsCompared);
        compared.insert(compared.end(), own.begin(), own.end());
      }
      if (prompt.second.empty()) continue;
      ++prompts;
      // In other repetitions the machine may have been another.
      const Cells first = Only(prompt.scheduled, [&](const Cell& cell) {
        return std::ranges::any_of(prompt.second, [&](const Cell* second_run) {
          return second_run->repetition == cell.repetition;
        });
      });
      const Number ttft_ratio =
          Quotient(MedianOf(first, &Cell::ttft_ms), MedianOf(prompt.second, &Cell::ttft_ms));
      if (ttft_ratio) ttft.push_back(*ttft_ratio);
      const Number total_ratio =
          Quotient(RecycledTotal(prompt.scheduled), RecycledTotal(prompt.second));
      if (total_ratio) total.push_back(*total_ratio);
    }
    if (second.empty() && compared.empty()) continue;
    const auto [low, high] = Ends(BootstrapInterval(ttft, GeometricMean));
    table.Row(scope,
              {Count(prompts), Count(std::ssize(second)), Count(std::ssize(compared)),
               Rate(CountIf(compared, IsExact), std::ssize(compared)),
               Small(Quantile(Collect(compared, OfFidelity(&Fidelity::max_abs_logit_diff)), 1)),
               Small(Mean(Collect(compared, OfFidelity(&Fidelity::kl_mean)))),
               Times(GeometricMean(ttft)), low, high, Times(GeometricMean(total)),
               Percent(PairDifference(BaselineRuns(Pointers(scope.prompts), &Cell::ttft_ms)))});
  }
  return table.Finish();
}

Table ExactnessTable(const std::vector<Scope>& scopes) {
  Builder table(
      "exactness", "Exactness of hits by match rule",
      "<policy <match <codec cells hits hits_claimed_exact:claimed exact_share:exact "
      "zero_difference_share:logit_diff_0 same_tokens_share:same_tokens claims_broken "
      "<probe_exact:probe",
      "exact, logit diff 0 and same tokens: hits out of the hits that were compared with the "
      "baseline. claimed: hits that the run called exact beforehand. claims broken: cells, "
      "hits or not, called exact that were not. probe: whether cutting a block anywhere left "
      "its rows unchanged at start-up, on that machine with that model.");
  for (const Scope& scope : scopes) {
    for (const Variant& variant : scope.variants) {
      const Cells cells = AllRecycledBy(Pointers(scope.prompts), variant);
      const Cells hits = Only(cells, IsHit);
      const std::int64_t compared = CountIf(hits, IsCompared);
      Value probe;
      if (scope.info && scope.info->probe_exact) {
        const bool exact = *scope.info->probe_exact;
        probe = {exact ? "exact" : "not exact", exact};
      }
      table.Row(scope, {Text(variant.policy), Text(variant.match), Text(variant.codec),
                        Count(std::ssize(cells)), Count(std::ssize(hits)),
                        Count(CountIf(hits, [](const Cell& c) { return c.exact_claimed; })),
                        Rate(CountIf(hits, IsExact), compared),
                        Rate(CountIf(hits, HasZeroDifference), compared),
                        Rate(CountIf(hits, HasSameTokens), compared),
                        Count(CountIf(cells, BreaksItsClaim)), probe});
    }
  }
  return table.Finish();
}

Table FoundTable(const std::vector<Scope>& scopes) {
  Builder table(
      "depth_found", "Depth found by embedding, against the depth that was there",
      "<workload <match <codec prompts found_mean:found prefix_mean:by_prefix available_mean:there "
      "found_share:share short:fell_short",
      "Mean depth in tokens over prompts of which both depths are known. by prefix: what the "
      "prefix policy found under the same match rule. there: the longest token prefix stored, "
      "whatever the match rule, as the cells recorded it; else what the prefix policy found. "
      "share: sum of found over sum of there. fell short: prompts for which embedding found less "
      "than was there; under whole and block the rule alone can do that.");
  ForEachGroup(
      scopes, [&](const Scope& scope, const Cohort& cohort, const Variant& variant, const Cells&) {
        if (variant.policy != "embedding") return;
        const auto recorded = [](const Cell& cell) -> Number {
          if (!cell.available_depth) return std::nullopt;
          return static_cast<double>(*cell.available_depth);
        };
        Samples found, by_prefix, available;
        std::int64_t fell_short = 0;
        for (const Prompt* prompt : cohort.prompts) {
          const Cells& cells = RecycledBy(*prompt, variant);
          const Number depth = MedianOf(cells, Depth);
          const Number prefix =
              MedianOf(RecycledBy(*prompt, {"prefix", variant.match, variant.codec}), Depth);
          Number there = MedianOf(cells, recorded);
          if (!there) there = prefix;
          if (!depth || !there) continue;
          found.push_back(*depth);
          if (prefix) by_prefix.push_back(*prefix);
          available.push_back(*there);
          fell_short += *depth < *there ? 1 : 0;
        }
        if (found.empty()) return;
        // A mean over other prompts than its neighbours' would mislead.
        const Number prefix_mean = by_prefix.size() == found.size() ? Mean(by_prefix) : Number();
        table.Row(scope, {Text(cohort.label), Text(variant.match), Text(variant.codec),
                          Count(std::ssize(found)), Formatted("%.1f", Mean(found)),
                          Formatted("%.1f", prefix_mean), Formatted("%.1f", Mean(available)),
                          Percent(Quotient(Mean(found), Mean(available))), Count(fell_short)});
      });
  return table.Finish();
}

Table DepthTable(const std::vector<Scope>& scopes) {
  struct Bucket {
    const char* label;
    std::int64_t from;
  };
  constexpr std::array<Bucket, 6> kBuckets = {
      {{"0", 0}, {"1-63", 1}, {"64-127", 64}, {"128-255", 128}, {"256-511", 256}, {"512+", 512}}};
  Builder table(
      "depth", "Speedup against depth",
      "<policy <codec <depth cells ttft_speedup_median:speedup ttft_speedup_min:least "
      "ttft_speedup_max:greatest",
      "Recycled cells of all match rules by tokens restored. speedup: median over cells of "
      "the prompt's faster baseline median TTFT over the cell's TTFT; least and greatest of "
      "any cell. Depth 0 shows what a miss costs.");
  for (const Scope& scope : scopes) {
    // By policy and codec.
    std::map<std::tuple<std::string, std::size_t, std::string>,
             std::array<std::pair<std::int64_t, Samples>, kBuckets.size()>>
        groups;
    for (const Prompt& prompt : scope.prompts) {
      const Number best = BestTtft(prompt);
      for (const auto& [variant, cells] : prompt.recycled) {
        for (const Cell* cell : cells) {
          std::size_t bucket = kBuckets.size() - 1;
          while (cell->reuse_depth < kBuckets[bucket].from) --bucket;
          auto& [count, samples] =
              groups[{variant.policy, CodecRank(variant.codec), variant.codec}][bucket];
          ++count;
          const Number ratio = Quotient(best, Number(cell->ttft_ms));
          if (ratio) samples.push_back(*ratio);
        }
      }
    }
    for (const auto& [group, buckets] : groups) {
      for (std::size_t i = 0; i < buckets.size(); ++i) {
        const auto& [count, samples] = buckets[i];
        table.Row(scope, {Text(std::get<0>(group)), Text(std::get<2>(group)),
                          Text(kBuckets[i].label), Count(count), Times(Median(samples)),
                          Times(Quantile(samples, 0)), Times(Quantile(samples, 1))});
      }
    }
  }
  return table.Finish();
}

// What filling one codec's cache cost, summed over a model's entries.
struct FillSum {
  std::int64_t entries = 0, tokens = 0, bytes = 0, new_blocks = 0, shared_blocks = 0;
  double prefill_ms = 0, save_ms = 0;
};

FillSum FillOf(const Scope& scope, const std::string& codec) {
  FillSum sum;
  for (const Fill& fill : scope.run->fill) {
    if (fill.model != scope.model || fill.precision != scope.precision) continue;
    if (CodecOf(fill) != codec) continue;
    ++sum.entries;
    sum.tokens += fill.tokens;
    sum.bytes += fill.bytes;
    sum.new_blocks += fill.new_blocks;
    sum.shared_blocks += fill.shared_blocks;
    sum.prefill_ms += fill.prefill_ms;
    sum.save_ms += fill.save_ms;
  }
  return sum;
}

// Calls `row` with scope and each codec that its cells or its filling name.
template <typename F>
void ForEachCodec(const std::vector<Scope>& scopes, F row) {
  for (const Scope& scope : scopes) {
    std::set<std::pair<std::size_t, std::string>> codecs;
    for (const Variant& variant : scope.variants) {
      codecs.emplace(CodecRank(variant.codec), variant.codec);
    }
    for (const Fill& fill : scope.run->fill) {
      if (fill.model == scope.model && fill.precision == scope.precision) {
        codecs.emplace(CodecRank(CodecOf(fill)), CodecOf(fill));
      }
    }
    for (const auto& [rank, codec] : codecs) row(scope, codec);
  }
}

Table FillTable(const std::vector<Scope>& scopes) {
  Builder table("fill", "What filling the cache cost",
                "<codec entries tokens prefill_ms save_ms save_ms_per_token:ms/token bytes "
                "bytes_per_token:bytes/token kv_bytes_per_token:KV_bytes/token new_blocks "
                "shared_blocks:shared",
                "Sums over entries. ms/token: saving only, without the prefill. bytes: written to "
                "disk; below tokens times KV bytes where entries share blocks.");
  ForEachCodec(scopes, [&](const Scope& scope, const std::string& codec) {
    const FillSum sum = FillOf(scope, codec);
    if (sum.entries == 0) return;
    const Number tokens = static_cast<double>(sum.tokens);
    table.Row(scope,
              {Text(codec), Count(sum.entries), Count(sum.tokens), Ms(sum.prefill_ms),
               Ms(sum.save_ms), Ms(Quotient(Number(sum.save_ms), tokens)), Count(sum.bytes),
               Formatted("%.0f", Quotient(sum.bytes, sum.tokens)),
               scope.info && scope.info->kv_bytes_per_token ? Count(*scope.info->kv_bytes_per_token)
                                                            : Value{},
               Count(sum.new_blocks), Count(sum.shared_blocks)});
  });
  return table.Finish();
}

Table CodecTable(const std::vector<Scope>& scopes) {
  Builder table(
      "codecs", "Cache codecs",
      "<codec stored_bytes_per_token:bytes/token fill_ms:fill "
      "restore_median_ms:restore cells hits compared exact_share:exact "
      "diverged_share:diverged first_divergence:first max_abs_logit_diff:max_abs_diff "
      "kl_mean:mean_KL kl_max:max_KL top1:top-1",
      "Recycled cells of all policies and match rules by the codec of their cache. bytes/token: in "
      "a block's file, keys and values of all layers with their scales. fill: saving all entries, "
      "without the prefill, in ms. restore: median over hits, in ms: read, check, decode. What "
      "follows is of hits that were decoded to the end and compared with the baseline: "
      "exact: all logits and tokens equal bit for bit; diverged: another token than the "
      "baseline's came, the earliest as new token number first (from 0); max abs diff: the "
      "greatest "
      "absolute difference of any logit; mean KL and top-1: means over cells along the baseline's "
      "tokens, KL in nats. Only fp32 claims to be exact.");
  ForEachCodec(scopes, [&](const Scope& scope, const std::string& codec) {
    Cells cells;
    for (const Variant& variant : scope.variants) {
      if (variant.codec != codec) continue;
      const Cells own = AllRecycledBy(Pointers(scope.prompts), variant);
      cells.insert(cells.end(), own.begin(), own.end());
    }
    const Cells hits = Only(cells, IsHit);
    const Cells compared = Only(Only(hits, IsFull), IsCompared);
    const FillSum sum = FillOf(scope, codec);
    std::optional<std::int64_t> first;
    for (const Cell* cell : compared) {
      const std::optional<std::int64_t>& own = cell->fidelity->first_divergence;
      if (own && (!first || *own < *first)) first = own;
    }
    Value bytes;
    if (scope.info != nullptr) {
      const auto stored = scope.info->stored_bytes_per_token.find(codec);
      if (stored != scope.info->stored_bytes_per_token.end()) bytes = Count(stored->second);
    }
    table.Row(
        scope,
        {Text(codec), bytes, sum.entries > 0 ? Ms(sum.save_ms) : Value{},
         Ms(MedianOf(hits, &Cell::restore_ms)), Count(std::ssize(cells)), Count(std::ssize(hits)),
         Count(std::ssize(compared)), Rate(CountIf(compared, IsExact), std::ssize(compared)),
         Rate(std::ssize(compared) - CountIf(compared, HasSameTokens), std::ssize(compared)),
         first ? Count(*first) : Value{},
         Small(Quantile(Collect(compared, OfFidelity(&Fidelity::max_abs_logit_diff)), 1)),
         Small(Mean(Collect(compared, OfFidelity(&Fidelity::kl_mean)))),
         Small(Quantile(Collect(compared, OfFidelity(&Fidelity::kl_max)), 1)),
         Formatted("%.4f", Mean(Collect(compared, OfFidelity(&Fidelity::top1))))});
  });
  return table.Finish();
}

Table BreakEvenTable(const std::vector<Scope>& scopes) {
  Builder table(
      "break_even", "When filling has paid for itself",
      "<policy <match <codec hits saved_ms_mean:saved_ms/hit "
      "break_even_hits:break-even_hits break_even_hits_per_entry:per_entry",
      "saved: mean over hits of the prompt's faster baseline TTFT less the cell's TTFT. "
      "break-even: total save time over that, and the same per entry. None where hits save "
      "nothing. The entries' prefill is not counted: it answered them.");
  for (const Scope& scope : scopes) {
    for (const Variant& variant : scope.variants) {
      const FillSum sum = FillOf(scope, variant.codec);
      Samples saved;
      std::int64_t hits = 0;
      for (const Prompt& prompt : scope.prompts) {
        const Number best = BestTtft(prompt);
        for (const Cell* cell : Only(RecycledBy(prompt, variant), IsHit)) {
          ++hits;
          if (best) saved.push_back(*best - cell->ttft_ms);
        }
      }
      const Number per_hit = Mean(saved);
      const Number uses = sum.entries > 0 ? Quotient(Number(sum.save_ms), per_hit) : std::nullopt;
      table.Row(scope,
                {Text(variant.policy), Text(variant.match), Text(variant.codec), Count(hits),
                 Ms(per_hit), Formatted("%.2f", uses),
                 Formatted("%.3f", Quotient(uses, Number(static_cast<double>(sum.entries))))});
    }
  }
  return table.Finish();
}

Table LimitsTable(const std::vector<Scope>& scopes) {
  Builder table("limits", "Misses and limits",
                "<policy <match <codec <outcome <limited_by cells prompts",
                "Recycled cells by outcome and by the reason why the depth was not larger.");
  for (const Scope& scope : scopes) {
    for (const Variant& variant : scope.variants) {
      using Key = std::pair<std::string, std::optional<std::string>>;
      std::map<Key, std::pair<std::int64_t, std::int64_t>> counts;
      for (const Prompt& prompt : scope.prompts) {
        std::set<Key> seen;
        for (const Cell* cell : RecycledBy(prompt, variant)) {
          const Key key{cell->outcome, cell->limited_by};
          ++counts[key].first;
          if (seen.insert(key).second) ++counts[key].second;
        }
      }
      for (const auto& [key, count] : counts) {
        table.Row(scope,
                  {Text(variant.policy), Text(variant.match), Text(variant.codec), Text(key.first),
                   Text(key.second), Count(count.first), Count(count.second)});
      }
    }
  }
  return table.Finish();
}

// ---- The lines on top ----

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

void DescribeRun(const Run& run, Report& report) {
  const Json& e = run.environment;
  const Number load = LoadOf(e);
  report.facts.push_back(run.label + ": " + std::to_string(run.cells.size()) + " cells; commit " +
                         Fact(e, "commit") + ", " + Fact(e, "build_type") + " build, libtorch " +
                         Fact(e, "libtorch_version"));
  std::string device;
  for (const ModelInfo& model : run.models) {
    if (model.device != "cpu" && device.empty()) device = model.device + ", ";
  }
  report.facts.push_back("machine: " + device + Fact(e, "cpu_model") + ", " +
                         Fact(e, "instruction_set") + ", " + Fact(e, "threads") +
                         " threads, host " + Fact(e, "host") + ", load " +
                         (load ? Print("%.2f", *load) : "unknown"));
  report.facts.push_back("started " + (run.started.empty() ? "unknown" : run.started) + ", " +
                         (run.finished ? "finished " + *run.finished : "UNFINISHED"));
  if (!run.finished) {
    report.warnings.push_back(run.label +
                              ": the run is unfinished; its tables cover what was "
                              "written so far");
  }
  if (run.cells.empty()) report.warnings.push_back(run.label + ": there are no cells");
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
  std::set<std::string> seen;
  std::int64_t twice = 0;
  for (const Cell& c : run.cells) {
    const Json key = {c.model,    c.precision, c.workload, c.prompt_id, c.repetition,
                      c.arm,      c.schedule,  c.control,  c.policy,    c.match.value_or(""),
                      CodecOf(c), c.full};
    if (!seen.insert(DumpLine(key)).second) ++twice;
  }
  if (twice > 0) {
    report.warnings.push_back(run.label + ": " + std::to_string(twice) +
                              " cells repeat an earlier cell's prompt, arm, configuration and "
                              "repetition; all of them are counted");
  }
}

// Whether some scheduled baseline of the prompt produced the cell's tokens, as far as both go.
bool TokensMatchABaseline(const Prompt& prompt, const Cell& cell) {
  return std::any_of(prompt.scheduled.begin(), prompt.scheduled.end(), [&](const Cell* base) {
    const std::size_t common = std::min(base->tokens.size(), cell.tokens.size());
    return std::equal(cell.tokens.begin(), cell.tokens.begin() + std::ptrdiff_t(common),
                      base->tokens.begin()) &&
           (!base->full || !cell.full || base->tokens.size() == cell.tokens.size());
  });
}

void DescribeScope(const Scope& scope, Report& report) {
  const std::string at = scope.Title();
  if (scope.info != nullptr) {
    std::string line = at + ": ";
    if (scope.info->random_weights) line += "RANDOM WEIGHTS (times count, texts do not); ";
    line += !scope.info->probe_exact   ? "not probed for exact cuts"
            : *scope.info->probe_exact ? "exact at every cut probed"
                                       : "NOT exact inside a block; match whole and token drift";
    if (scope.info->probe_cuts) line += " (" + std::to_string(*scope.info->probe_cuts) + " cuts)";
    report.facts.push_back(std::move(line));
  } else {
    report.warnings.push_back(at + ": run.json does not describe this model");
  }

  std::int64_t broken = 0, contradicting = 0, claimed_unseen = 0, baseline_off = 0;
  std::int64_t no_baseline = 0, prompts = 0, free_faster = 0, unsteady = 0, truncated = 0;
  std::int64_t warm = 0, cold = 0, hits = 0;
  for (const Prompt& prompt : scope.prompts) {
    const std::optional<Best> best = BestBaseline(prompt);
    if (!prompt.recycled.empty()) {
      ++prompts;
      if (!best) ++no_baseline;
      if (best && best->free) ++free_faster;
    }
    for (const Cells* cells : {&prompt.scheduled, &prompt.second}) {
      baseline_off += CountIf(*cells, [](const Cell& c) { return IsCompared(c) && !IsExact(c); });
    }
    for (const auto& [variant, cells] : prompt.recycled) {
      const auto [least, most] = std::minmax_element(
          cells.begin(), cells.end(),
          [](const Cell* a, const Cell* b) { return a->reuse_depth < b->reuse_depth; });
      if ((*least)->reuse_depth != (*most)->reuse_depth) ++unsteady;
      for (const Cell* cell : cells) {
        if (BreaksItsClaim(*cell)) ++broken;
        if (IsExact(*cell) && !prompt.scheduled.empty() && !TokensMatchABaseline(prompt, *cell)) {
          ++contradicting;
        }
        if (cell->hit() && cell->exact_claimed && !IsCompared(*cell)) ++claimed_unseen;
        if (cell->truncated_tokens > 0) ++truncated;
        if (cell->hit()) ++hits;
        if (cell->page_cache == "warm") ++warm;
        if (cell->page_cache == "cold") ++cold;
      }
    }
  }
  report.facts.push_back(at + ": " + std::to_string(prompts) + " prompts, " + std::to_string(hits) +
                         " hits; files in the page cache " + std::to_string(warm) + " times, not " +
                         std::to_string(cold) + " times; the free baseline is the faster one for " +
                         std::to_string(free_faster) + " prompts");
  const auto say = [&](std::vector<std::string>& lines, const char* head, std::int64_t count,
                       const char* what) {
    if (count > 0) lines.push_back(head + std::to_string(count) + what + " (" + at + ")");
  };
  say(report.alarms, "EXACTNESS VIOLATED: ", broken,
      " cells claim to be exact and differ from their baseline");
  say(report.alarms, "CONTRADICTION: ", contradicting,
      " cells are recorded as exact, but no baseline of their prompt has their tokens");
  say(report.alarms, "BASELINE NOT REPEATABLE: ", baseline_off,
      " baseline cells differ from the baseline that ran before their prompt's cells");
  say(report.warnings, "", claimed_unseen, " hits claim to be exact and were not compared");
  say(report.warnings, "", no_baseline,
      " prompts have recycled cells and no baseline: no speedup for them");
  say(report.warnings, "", unsteady,
      " times the depth differs between repetitions of a prompt; a frozen cache should not do "
      "that");
  say(report.warnings, "", truncated, " cells had their prompt cut short");
}

// ---- Writers ----

// Characters, at the price of taking each code point as one column wide.
std::size_t Width(std::string_view text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

// No line break or other control character leaves its table cell.
std::string OneLine(std::string text) {
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) c = ' ';
  }
  return text;
}

std::string MarkdownText(std::string_view text) {
  std::string out;
  for (const char c : OneLine(std::string(text))) {
    if (std::string_view("\\|`*_<>[]#").find(c) != std::string_view::npos) out += '\\';
    out += c;
  }
  return out;
}

std::string LatexText(std::string_view text) {
  static const std::map<char, std::string_view> named = {
      {'\\', "textbackslash"}, {'~', "textasciitilde"}, {'^', "textasciicircum"},
      {'<', "textless"},       {'>', "textgreater"},    {'|', "textbar"}};
  std::string out;
  for (const char c : OneLine(std::string(text))) {
    const auto name = named.find(c);
    if (name != named.end()) {
      out.append("\\").append(name->second).append("{}");
      continue;
    }
    if (std::string_view("&%$#_{}").find(c) != std::string_view::npos) out += '\\';
    out += c;
  }
  return out;
}

std::string CsvText(const std::string& text) {
  if (text.find_first_of("\",\r\n") == std::string::npos && !text.starts_with('#')) return text;
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"') out += '"';
    out += c;
  }
  return out + '"';
}

std::string CsvValue(const Json& raw) {
  if (raw.is_null()) return "";
  return CsvText(raw.is_string() ? raw.get<std::string>() : DumpLine(raw));
}

std::string Wrapped(std::string_view text, std::size_t width) {
  std::string out;
  std::size_t column = 0;
  while (!text.empty()) {
    const std::size_t space = std::min(text.find(' '), text.size());
    const std::string_view word = text.substr(0, space);
    text.remove_prefix(std::min(space + 1, text.size()));
    if (column > 0 && column + 1 + Width(word) > width) {
      out += '\n';
      column = 0;
    } else if (column > 0) {
      out += ' ';
      ++column;
    }
    out += word;
    column += Width(word);
  }
  return out + '\n';
}

// What people are shown of a table: heads and rows as escaped text, without constant columns.
struct Grid {
  std::vector<bool> right;
  std::vector<std::vector<std::string>> lines;  // the first one holds the heads
};

template <typename Escape>
Grid GridOf(const Table& table, Escape escape) {
  Grid grid;
  grid.lines.resize(table.rows.size() + 1);
  for (std::size_t column = 0; column < table.columns.size(); ++column) {
    if (table.columns[column].constant) continue;
    grid.right.push_back(table.columns[column].right);
    grid.lines[0].push_back(escape(table.columns[column].head));
    for (std::size_t row = 0; row < table.rows.size(); ++row) {
      grid.lines[row + 1].push_back(escape(table.rows[row][column].text));
    }
  }
  return grid;
}

std::string Joined(const std::vector<std::string>& parts, const char* separator) {
  std::string out;
  for (std::size_t i = 0; i < parts.size(); ++i)
    out.append(i == 0 ? "" : separator).append(parts[i]);
  return out;
}

std::string TextTable(const Table& table) {
  std::string out = table.title + '\n' + std::string(Width(table.title), '=') + '\n';
  if (table.rows.empty()) return out + "(nothing to show)\n";
  Grid grid = GridOf(table, OneLine);
  for (std::size_t column = 0; column < grid.right.size(); ++column) {
    std::size_t width = 0;
    for (const auto& line : grid.lines) width = std::max(width, Width(line[column]));
    for (auto& line : grid.lines) {
      const std::string gap(width - Width(line[column]), ' ');
      line[column] = grid.right[column] ? gap + line[column] : line[column] + gap;
    }
  }
  for (const auto& line : grid.lines) {
    const std::string joined = Joined(line, "  ");
    out += joined.substr(0, joined.find_last_not_of(' ') + 1) + '\n';
  }
  return out + Wrapped(table.note, 100);
}

std::string MarkdownTable(const Table& table) {
  const std::string title = "## " + MarkdownText(table.title) + "\n\n";
  if (table.rows.empty()) return title + "(nothing to show)\n";
  const Grid grid = GridOf(table, MarkdownText);
  std::vector<std::string> rule;
  for (const bool right : grid.right) rule.push_back(right ? "---:" : ":---");
  std::string out = title;
  for (std::size_t i = 0; i < grid.lines.size(); ++i) {
    out += "| " + Joined(grid.lines[i], " | ") + " |\n";
    if (i == 0) out += "| " + Joined(rule, " | ") + " |\n";
  }
  return out + '\n' + MarkdownText(table.note) + '\n';
}

std::string LatexTable(const Table& table) {
  const std::string title = "\\paragraph{" + LatexText(table.title) + "}\n";
  if (table.rows.empty()) return title + "Nothing to show.\n";
  const Grid grid = GridOf(table, LatexText);
  std::string out = title + "{\\scriptsize\\setlength{\\tabcolsep}{3pt}\n\\begin{longtable}{";
  for (const bool right : grid.right) out += right ? 'r' : 'l';
  out += "}\n\\toprule\n";
  for (std::size_t i = 0; i < grid.lines.size(); ++i) {
    // Without the braces, a line that began with "[" would be the option of the "\\" before it.
    out += "{}" + Joined(grid.lines[i], " & ") + " \\\\\n";
    if (i == 0) out += "\\midrule\n\\endhead\n\\bottomrule\n\\endfoot\n";
  }
  return out + "\\end{longtable}}\n{\\footnotesize " + LatexText(table.note) + "\\par}\n";
}

std::string CsvTable(const Table& table) {
  std::vector<std::string> line;
  for (const Column& column : table.columns) line.push_back(CsvText(column.key));
  std::string out = Joined(line, ",") + '\n';
  for (const auto& row : table.rows) {
    line.clear();
    for (const Value& value : row) line.push_back(CsvValue(value.raw));
    out += Joined(line, ",") + '\n';
  }
  return out;
}

Json JsonTable(const Table& table) {
  Json columns = Json::array(), rows = Json::array();
  for (const Column& column : table.columns) {
    columns.push_back({{"key", column.key}, {"head", column.head}});
  }
  for (const auto& row : table.rows) {
    Json object = Json::object();
    for (std::size_t i = 0; i < row.size(); ++i) object[table.columns[i].key] = row[i].raw;
    rows.push_back(std::move(object));
  }
  return {{"name", table.name},
          {"title", table.title},
          {"note", table.note},
          {"columns", std::move(columns)},
          {"rows", std::move(rows)}};
}

std::string Pretty(const Json& json) {
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + '\n';
}

}  // namespace

Report BuildReport(std::span<const Run> runs) {
  const std::vector<Scope> scopes = ScopesOf(runs);
  Report report;
  for (const Run& run : runs) DescribeRun(run, report);
  for (const Scope& scope : scopes) DescribeScope(scope, report);
  report.tables = {PromptTable(scopes),    SpeedTable(scopes),     PhaseTable(scopes),
                   FidelityTable(scopes),  ControlTable(scopes),   BaselineTable(scopes),
                   ExactnessTable(scopes), FoundTable(scopes),     DepthTable(scopes),
                   FillTable(scopes),      BreakEvenTable(scopes), CodecTable(scopes),
                   LimitsTable(scopes)};

  std::set<std::string> models, precisions, codecs;
  for (const Scope& scope : scopes) {
    models.insert(scope.model);
    precisions.insert(scope.precision);
    for (const Variant& variant : scope.variants) codecs.insert(variant.codec);
  }
  for (Table& table : report.tables) {
    table.columns[0].constant = runs.size() < 2;
    table.columns[1].constant = models.size() < 2;
    table.columns[2].constant = precisions.size() < 2;
    for (Column& column : table.columns) {
      if (column.key == "codec" && table.name != "codecs") column.constant = codecs.size() < 2;
    }
  }
  return report;
}

Format FormatFromString(std::string_view text) {
  if (text == "table") return Format::kTable;
  if (text == "markdown") return Format::kMarkdown;
  if (text == "csv") return Format::kCsv;
  if (text == "latex") return Format::kLatex;
  if (text == "json") return Format::kJson;
  throw InvalidInput("report format \"" + std::string(text) +
                     "\", expected one of table, markdown, csv, latex, json");
}

std::string Render(const Table& table, Format format) {
  switch (format) {
    case Format::kTable:
      return TextTable(table);
    case Format::kMarkdown:
      return MarkdownTable(table);
    case Format::kCsv:
      return CsvTable(table);
    case Format::kLatex:
      return LatexTable(table);
    case Format::kJson:
      return Pretty(JsonTable(table));
  }
  throw std::logic_error("unknown report format");
}

std::string Render(const Report& report, Format format) {
  if (format == Format::kJson) {
    Json tables = Json::array();
    for (const Table& table : report.tables) tables.push_back(JsonTable(table));
    return Pretty({{"schema", kResultsSchema},
                   {"alarms", report.alarms},
                   {"facts", report.facts},
                   {"warnings", report.warnings},
                   {"tables", std::move(tables)}});
  }
  std::string out;
  const auto line = [&](const std::string& text, bool loud) {
    switch (format) {
      case Format::kMarkdown:
        out += (loud ? "- **" : "- ") + MarkdownText(text) + (loud ? "**\n" : "\n");
        break;
      case Format::kLatex:
        out += (loud ? "\\noindent\\textbf{" : "\\noindent{") + LatexText(text) + "}\\par\n";
        break;
      case Format::kCsv:
        out += "# " + OneLine(text) + '\n';
        break;
      default:
        out += (loud ? "!!! " : "") + OneLine(text) + '\n';
    }
  };
  for (const std::string& alarm : report.alarms) line(alarm, true);
  for (const std::string& fact : report.facts) line(fact, false);
  for (const std::string& warning : report.warnings) line("warning: " + warning, false);
  for (const Table& table : report.tables) {
    out += '\n';
    if (format == Format::kCsv) out += "# " + table.name + ": " + table.title + '\n';
    out += Render(table, format);
  }
  return out;
}

}  // namespace kvr::experiment
