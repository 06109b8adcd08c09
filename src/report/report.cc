#include "kvr/report/report.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <map>
#include <optional>
#include <set>
#include <tuple>
#include <utility>

#include "kvr/record/statistics.h"
#include "samples.h"
#include "values.h"

namespace kvr::report {

namespace {

// Calls `row` with scope, cohort, variant, and with the null variant if so asked, and
// the cohort's cells of that variant, if any.
template <typename F>
void ForEachGroup(const std::vector<Scope>& scopes, bool with_null, F row) {
  for (const Scope& scope : scopes) {
    for (const Cohort& cohort : CohortsOf(scope)) {
      for (const Variant& variant : with_null ? scope.NullAndVariants() : scope.variants) {
        const Cells cells = AllRecycledBy(cohort.prompts, variant);
        if (!cells.empty()) row(scope, cohort, variant, cells);
      }
    }
  }
}

Table PromptTable(const std::vector<Scope>& scopes) {
  Builder table(
      "prompts", "Each prompt",
      "<prompt_id:prompt <workload @ prompt_tokens:tokens "
      "reuse_depth:depth similarity:sim. baseline_ttft_ms:base_TTFT <baseline:which "
      "recycled_ttft_ms:rec._TTFT ttft_speedup:speedup new_tokens:new baseline_total_ms:base_total "
      "recycled_total_ms:rec._total total_speedup:speedup output_cosine:out._sim. "
      "<exact_to_the_end:exact <exact_at_first_token:at_first <limited_by",
      "Times in ms, medians over repetitions; TTFT of the recycled arm includes embedding, "
      "lookup and restore. base TTFT: the run's one baseline; which: its schedule, chosen before "
      "the run (runs of schema 1: block). Totals: time until so many new tokens were there, the "
      "last that all decoded cells of both arms have; of three decoded cells or more in each arm. "
      "sim.: cosine of the prompt and the entry used, or the nearest. out. sim.: mean cosine of "
      "the output text and the baseline's. exact: all logits and tokens equal the baseline's bit "
      "for bit in every repetition compared to its end; at first: in every one compared at the "
      "first token only.");
  const auto all_exact = [](const Cells& compared) -> Value {
    if (compared.empty()) return {};
    const bool all = CountIf(compared, IsExact) == std::ssize(compared);
    return {all ? "yes" : "no", all};
  };
  for (const Scope& scope : scopes) {
    for (const Prompt& prompt : scope.prompts) {
      for (const Variant& variant : scope.variants) {
        const Cells& cells = RecycledBy(prompt, variant);
        if (cells.empty()) continue;
        const std::optional<Totals> totals = TotalsOf(prompt.baseline, cells);
        table.Row(scope, {Text(prompt.id), Text(prompt.workload)}, variant,
                  {Count(prompt.tokens), Formatted("%.0f", MedianOf(cells, Depth)),
                   Formatted("%.3f", MedianOf(cells, &Cell::similarity)), Ms(BaselineTtft(prompt)),
                   prompt.baseline.empty() ? Value{} : Text(scope.Schedule()),
                   Ms(MedianOf(cells, &Cell::ttft_ms)), Times(TtftSpeedup(prompt, cells)),
                   totals ? Count(totals->new_tokens) : Value{},
                   Ms(totals ? Number(totals->baseline_ms) : Number()),
                   Ms(totals ? Number(totals->recycled_ms) : Number()),
                   Times(totals ? totals->speedup() : Number()), Semantic(cells, &Fidelity::cosine),
                   all_exact(Only(cells, IsComparedToTheEnd)),
                   all_exact(Only(cells, IsComparedAtFirst)), Text(cells.front()->limited_by)});
      }
    }
  }
  return table.Finish();
}

Table SpeedTable(const std::vector<Scope>& scopes) {
  Builder table(
      "workloads", "Speed by workload",
      "<workload @ prompts clusters cells hits hit_depth_mean:depth "
      "reused_share:reused ttft_speedup:speedup ttft_speedup_low:low "
      "ttft_speedup_high:high ttft_speedup_of_hits:of_hits total_speedup:total "
      "total_speedup_low:low total_speedup_high:high",
      "speedup: geometric mean over prompts, hits and misses alike, of the baseline's median TTFT "
      "over the recycled median TTFT; low and high: its 95 % t interval on log ratios; prompts "
      "that share a cached parent are one cluster, groups are strata (none for fewer than three "
      "clusters). of hits: the same over prompts that were hit. total: the same for the time to "
      "the last new token that both arms have, of three decoded cells or more in each arm. hits: "
      "cells. depth: mean over hits. reused: restored tokens among all prompt tokens. Policy off "
      "is the null variant: the baseline's work sent through the recycled arm; it must read 1. "
      "The control groups are those that the configuration names, but for groups that had hits.");
  ForEachGroup(
      scopes, true,
      [&](const Scope& scope, const Cohort& cohort, const Variant& variant, const Cells& cells) {
        std::vector<const Prompt*> with_cells = cohort.prompts, hit;
        std::erase_if(with_cells, [&](const Prompt* p) { return RecycledBy(*p, variant).empty(); });
        for (const Prompt* prompt : with_cells) {
          if (CountIf(RecycledBy(*prompt, variant), IsHit) > 0) hit.push_back(prompt);
        }
        std::int64_t depth = 0, tokens = 0;
        for (const Cell* cell : cells) {
          depth += cell->reuse_depth;
          tokens += cell->prompt_tokens;
        }
        const std::optional<Estimate> ttft = TtftEstimate(with_cells, variant);
        const std::optional<Estimate> total = TotalEstimate(with_cells, variant);
        const auto [low, high] = Ends(ttft);
        const auto [total_low, total_high] = Ends(total);
        table.Row(scope, {Text(cohort.label)}, variant,
                  {Count(std::ssize(with_cells)),
                   ttft ? Count(static_cast<std::int64_t>(ttft->clusters)) : Value{},
                   Count(std::ssize(cells)), Count(CountIf(cells, IsHit)),
                   Formatted("%.1f", Mean(Collect(Only(cells, IsHit), Depth))),
                   Percent(Quotient(depth, tokens)), Ratio(ttft), low, high,
                   Ratio(TtftEstimate(hit, variant)), Ratio(total), total_low, total_high});
      });
  return table.Finish();
}

Table FidelityTable(const std::vector<Scope>& scopes) {
  Builder table(
      "fidelity", "Fidelity by workload",
      "<workload @ cells compared:to_the_end exact_share:exact "
      "compared_at_first:at_first exact_share_at_first:exact "
      "max_abs_logit_diff:max_abs_diff kl_mean:mean_KL kl_max:max_KL top1:top-1 "
      "output_cosine:cosine rouge_l:ROUGE-L",
      "Recycled cells, hits and misses, against the baseline that ran before their prompt's "
      "cells. to the end, at first: cells compared to their last token, and at the first token "
      "only; exact: all logits and tokens compared equal bit for bit. max abs diff: the greatest "
      "absolute "
      "difference "
      "of any logit. mean KL, top-1 (share of steps where both have the same most likely "
      "token), cosine and ROUGE-L: means over cells; KL in nats along the baseline's tokens.");
  ForEachGroup(
      scopes, true,
      [&](const Scope& scope, const Cohort& cohort, const Variant& variant, const Cells& cells) {
        const Cells to_the_end = Only(cells, IsComparedToTheEnd);
        const Cells at_first = Only(cells, IsComparedAtFirst);
        table.Row(
            scope, {Text(cohort.label)}, variant,
            {Count(std::ssize(cells)), Count(std::ssize(to_the_end)),
             Rate(CountIf(to_the_end, IsExact), std::ssize(to_the_end)),
             Count(std::ssize(at_first)), Rate(CountIf(at_first, IsExact), std::ssize(at_first)),
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
      "<workload @ cells embed_median_ms:embed embed_p95_ms:p95 "
      "lookup_median_ms:lookup lookup_p95_ms:p95 restore_median_ms:restore restore_p95_ms:p95 "
      "prefill_median_ms:prefill prefill_p95_ms:p95 ttft_median_ms:TTFT ttft_p95_ms:p95 "
      "decode_per_token_median_ms:decode/tok decode_per_token_p95_ms:p95",
      "Median and 95th percentile over cells (type 7; below 21 cells it lies between the two "
      "largest), in ms. Rows \"baseline block\" and \"baseline free\" are the baselines with the "
      "block schedule and with the best chunking, policy off is the null variant. decode/tok: "
      "decoding over new tokens less one.");
  for (const Scope& scope : scopes) {
    for (const Cohort& cohort : CohortsOf(scope)) {
      const auto row = [&](const std::string& policy, const std::optional<std::string>& match,
                           const std::optional<std::string>& codec, const Value& candidates,
                           const Cells& cells) {
        if (cells.empty()) return;
        std::vector<Value> values = {Text(cohort.label), Text(policy), Text(match),
                                     candidates,         Text(codec),  Count(std::ssize(cells))};
        for (const Samples& phase :
             {Collect(cells, &Cell::embed_ms), Collect(cells, &Cell::lookup_ms),
              Collect(cells, &Cell::restore_ms), Collect(cells, &Cell::prefill_ms),
              Collect(cells, &Cell::ttft_ms), Collect(cells, &Cell::DecodeMsPerToken)}) {
          values.push_back(Ms(Median(phase)));
          values.push_back(Ms(P95(phase)));
        }
        table.Row(scope, std::move(values));
      };
      Cells baseline, other;
      for (const Prompt* prompt : cohort.prompts) {
        baseline.insert(baseline.end(), prompt->baseline.begin(), prompt->baseline.end());
        other.insert(other.end(), prompt->other_baseline.begin(), prompt->other_baseline.end());
      }
      const std::string schedule = scope.Schedule();
      row("baseline", schedule, std::nullopt, {}, baseline);
      row("baseline", schedule == "free" ? "block" : "free", std::nullopt, {}, other);
      for (const Variant& variant : scope.NullAndVariants()) {
        row(variant.policy, variant.match, variant.codec, Name(variant)[2],
            AllRecycledBy(cohort.prompts, variant));
      }
    }
  }
  return table.Finish();
}

// Difference, 90 % interval, verdict, what it could have seen, power at 5 %.
std::vector<Value> Equivalences(const std::optional<Estimate>& estimate) {
  if (!estimate) return std::vector<Value>(6);
  const std::optional<Equivalence> test = TestEquivalence(*estimate, kMargin);
  std::vector<Value> values = {SignedPercent(estimate->ratio() - 1)};
  if (!test) {
    values.resize(6);
    return values;
  }
  for (Value& value : std::vector<Value>{
           SignedPercent(test->interval.low - 1), SignedPercent(test->interval.high - 1),
           Text(ToString(test->verdict)), Percent(test->detectable), Percent(test->power_at_5)}) {
    values.push_back(std::move(value));
  }
  return values;
}

Table ControlTable(const std::vector<Scope>& scopes) {
  Builder table(
      "no_overlap", "Control: prompts without any overlap",
      "@ prompts cells hits same_tokens_share:same_tokens "
      "prefill_difference:prefill prefill_low:low prefill_high:high <prefill_verdict:verdict "
      "prefill_detectable:could_see prefill_power_at_5:power_at_5_% "
      "decode_difference:decode/tok decode_low:low decode_high:high <decode_verdict:verdict "
      "decode_detectable:could_see decode_power_at_5:power_at_5_% "
      "overhead_ms:embed+lookup overhead_share:of_TTFT",
      "Workloads that the configuration names as control groups and that had no hit: recycling "
      "has nothing to give there and must take nothing but embedding and lookup. prefill, "
      "decode/tok: the recycled time over the baseline's, less 1, by the estimator of the "
      "speed-ups; low and high: its 90 % interval. verdict, at a level of 5 %: equivalent where "
      "that interval lies within 3 % on both sides; else differs where the 95 % interval excludes "
      "0; else undecided. could see: the difference that would have been found in 80 of 100 such "
      "runs; power at 5 %: how often a difference of 5 % would have been. Policy off is the null "
      "variant. embed+lookup in ms and as share of TTFT, medians over cells. same tokens: of the "
      "compared cells.");
  for (const Scope& scope : scopes) {
    const std::vector<const Prompt*> prompts = Controls(scope);
    for (const Variant& variant : scope.NullAndVariants()) {
      const Cells cells = AllRecycledBy(prompts, variant);
      if (cells.empty()) continue;
      const auto with_cells = [&](const Prompt* p) { return !RecycledBy(*p, variant).empty(); };
      std::vector<Value> values = {Count(std::count_if(prompts.begin(), prompts.end(), with_cells)),
                                   Count(std::ssize(cells)), Count(CountIf(cells, IsHit)),
                                   Rate(CountIf(cells, HasSameTokens), CountIf(cells, IsCompared))};
      for (const std::optional<Estimate>& estimate :
           {PrefillEstimate(prompts, variant), DecodeEstimate(prompts, variant)}) {
        for (Value& value : Equivalences(estimate)) values.push_back(std::move(value));
      }
      values.push_back(Ms(MedianOf(cells, Overhead)));
      values.push_back(Percent(MedianOf(cells, OverheadShare)));
      table.Row(scope, {}, variant, std::move(values));
    }
  }
  return table.Finish();
}

Table BaselineTable(const std::vector<Scope>& scopes) {
  Builder table(
      "baselines", "Control: the same work twice",
      "<what prompts cells compared exact_share:exact max_abs_logit_diff:max_abs_diff "
      "ttft_ratio:TTFT_ratio ttft_ratio_low:low ttft_ratio_high:high "
      "total_ratio total_ratio_low:low total_ratio_high:high ttft_difference:TTFT "
      "ttft_low:low ttft_high:high <ttft_verdict:verdict ttft_detectable:could_see "
      "ttft_power_at_5:power_at_5_%",
      "null variant: the baseline's work sent through the recycled arm; second baseline: the "
      "baseline once more; first baseline: itself, for its exactness. All in every repetition, on "
      "all prompts. Exactness and logits: against "
      "the baseline that ran before the prompt's cells. Ratios: the baseline's time over theirs, "
      "by the estimator of the speed-ups with its 95 % interval; a speed-up inside it is none. "
      "TTFT and what follows: theirs over the baseline's, less 1, with the 90 % interval, the "
      "verdict within 3 % and what it could have seen, as in no_overlap.");
  for (const Scope& scope : scopes) {
    const auto row = [&](const char* what, auto cells_of) {
      Cells cells;
      std::int64_t prompts = 0;
      for (const Prompt& prompt : scope.prompts) {
        const Cells& own = cells_of(prompt);
        prompts += own.empty() ? 0 : 1;
        cells.insert(cells.end(), own.begin(), own.end());
      }
      if (cells.empty()) return;
      const Cells compared = Only(cells, IsCompared);
      const auto over_baseline = [&](const Prompt& p) {
        return Quotient(MedianOf(cells_of(p), &Cell::ttft_ms), BaselineTtft(p));
      };
      const std::vector<const Prompt*> all = Pointers(scope.prompts);
      const std::optional<Estimate> ttft =
          EstimateOver(all, [&](const Prompt& p) { return TtftSpeedup(p, cells_of(p)); });
      const std::optional<Estimate> total = EstimateOver(all, [&](const Prompt& p) {
        const std::optional<Totals> totals = TotalsOf(p.baseline, cells_of(p));
        return totals ? totals->speedup() : Number();
      });
      const auto [low, high] = Ends(ttft);
      const auto [total_low, total_high] = Ends(total);
      std::vector<Value> values = {
          Text(what),
          Count(prompts),
          Count(std::ssize(cells)),
          Count(std::ssize(compared)),
          Rate(CountIf(compared, IsExact), std::ssize(compared)),
          Small(Quantile(Collect(compared, OfFidelity(&Fidelity::max_abs_logit_diff)), 1)),
          Ratio(ttft),
          low,
          high,
          Ratio(total),
          total_low,
          total_high};
      for (Value& value : Equivalences(EstimateOver(all, over_baseline))) {
        values.push_back(std::move(value));
      }
      table.Row(scope, std::move(values));
    };
    row("null variant",
        [](const Prompt& p) -> const Cells& { return RecycledBy(p, NullVariant()); });
    row("second baseline", [](const Prompt& p) -> const Cells& { return p.second; });
    row("first baseline", [](const Prompt& p) -> const Cells& { return p.baseline; });
  }
  return table.Finish();
}

Table ExactnessTable(const std::vector<Scope>& scopes) {
  Builder table(
      "exactness", "Exactness of hits by match rule",
      "@ cells hits hits_claimed_exact:claimed exact_share:exact_to_the_end "
      "exact_share_at_first:at_first_only zero_difference_share:logit_diff_0 "
      "same_tokens_share:same_tokens claims_broken "
      "<probe_exact:probe",
      "exact: hits out of the hits that were compared with the baseline to their last token, and "
      "of those compared at the first token only; logit diff 0 and same tokens: of both. claimed: "
      "hits that the run called exact beforehand. claims broken: cells, "
      "hits or not, called exact that were not. probe: whether cutting a block anywhere left "
      "its rows unchanged at start-up, on that machine with that model.");
  for (const Scope& scope : scopes) {
    for (const Variant& variant : scope.variants) {
      const Cells cells = AllRecycledBy(Pointers(scope.prompts), variant);
      const Cells hits = Only(cells, IsHit);
      const std::int64_t compared = CountIf(hits, IsCompared);
      const Cells to_the_end = Only(hits, IsComparedToTheEnd);
      const Cells at_first = Only(hits, IsComparedAtFirst);
      Value probe;
      if (scope.info && scope.info->probe_exact) {
        const bool exact = *scope.info->probe_exact;
        probe = {exact ? "exact" : "not exact", exact};
      }
      table.Row(scope, {}, variant,
                {Count(std::ssize(cells)), Count(std::ssize(hits)),
                 Count(CountIf(hits, [](const Cell& c) { return c.exact_claimed; })),
                 Rate(CountIf(to_the_end, IsExact), std::ssize(to_the_end)),
                 Rate(CountIf(at_first, IsExact), std::ssize(at_first)),
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
      "<workload <match <candidates:cand. <codec prompts found_mean:found prefix_mean:by_prefix "
      "available_mean:there "
      "found_share:share short:fell_short",
      "Mean depth in tokens over prompts of which both depths are known. by prefix: what the "
      "prefix policy found under the same match rule. there: the longest token prefix stored, "
      "whatever the match rule, as the cells recorded it; else what the prefix policy found. "
      "share: sum of found over sum of there. fell short: prompts for which embedding found less "
      "than was there; under whole and block the rule alone can do that.");
  ForEachGroup(
      scopes, false,
      [&](const Scope& scope, const Cohort& cohort, const Variant& variant, const Cells&) {
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
              MedianOf(RecycledBy(*prompt, {"prefix", variant.match, variant.codec, {}}), Depth);
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
        table.Row(scope,
                  {Text(cohort.label), Text(variant.match), Name(variant)[2], Text(variant.codec),
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
      "<policy <codec <depth prompts cells ttft_speedup:speedup ttft_speedup_low:low "
      "ttft_speedup_high:high ttft_speedup_min:least ttft_speedup_max:greatest",
      "Recycled cells of all match rules and numbers of candidates by tokens restored. speedup: "
      "geometric mean over prompts of the baseline's median TTFT over the median TTFT of the "
      "prompt's cells of that depth, with its 95 % interval as in workloads; least and greatest: "
      "of any cell. Depth 0 shows what a miss costs.");
  for (const Scope& scope : scopes) {
    // By policy and codec: each prompt's cells in each bucket.
    using Group = std::pair<std::string, CodecPlace>;
    std::map<Group, std::array<std::map<const Prompt*, Cells>, kBuckets.size()>> groups;
    for (const Prompt& prompt : scope.prompts) {
      for (const auto& [variant, cells] : prompt.recycled) {
        if (variant == NullVariant()) continue;
        for (const Cell* cell : cells) {
          std::size_t bucket = kBuckets.size() - 1;
          while (cell->reuse_depth < kBuckets[bucket].from) --bucket;
          groups[{variant.policy, scope.PlaceOf(variant.codec)}][bucket][&prompt].push_back(cell);
        }
      }
    }
    for (const auto& [group, buckets] : groups) {
      for (std::size_t i = 0; i < buckets.size(); ++i) {
        std::vector<const Prompt*> prompts;
        std::int64_t count = 0;
        Samples ratios;
        for (const auto& [prompt, cells] : buckets[i]) {
          prompts.push_back(prompt);
          count += std::ssize(cells);
          for (const Cell* cell : cells) {
            const Number ratio = Quotient(BaselineTtft(*prompt), Number(cell->ttft_ms));
            if (ratio) ratios.push_back(*ratio);
          }
        }
        const auto& bucket = buckets[i];
        const std::optional<Estimate> speedup = EstimateOver(
            prompts, [&bucket](const Prompt& p) { return TtftSpeedup(p, bucket.at(&p)); });
        const auto [low, high] = Ends(speedup);
        table.Row(scope,
                  {Text(group.first), Text(std::get<2>(group.second)), Text(kBuckets[i].label),
                   Count(std::ssize(prompts)), Count(count), Ratio(speedup), low, high,
                   Times(Quantile(ratios, 0)), Times(Quantile(ratios, 1))});
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
    std::set<CodecPlace> codecs;
    for (const Variant& variant : scope.variants) {
      codecs.insert(scope.PlaceOf(variant.codec));
    }
    for (const Fill& fill : scope.run->fill) {
      if (fill.model == scope.model && fill.precision == scope.precision) {
        codecs.insert(scope.PlaceOf(CodecOf(fill)));
      }
    }
    for (const CodecPlace& place : codecs) row(scope, std::get<2>(place));
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
      "@ hits saved_ms_mean:saved_ms/hit "
      "break_even_hits:break-even_hits break_even_hits_per_entry:per_entry",
      "saved: mean over hits of the prompt's median baseline TTFT less the cell's TTFT. "
      "break-even: total save time over that, and the same per entry. None where hits save "
      "nothing. The entries' prefill is not counted: it answered them.");
  for (const Scope& scope : scopes) {
    for (const Variant& variant : scope.variants) {
      const FillSum sum = FillOf(scope, variant.codec);
      Samples saved;
      std::int64_t hits = 0;
      for (const Prompt& prompt : scope.prompts) {
        const Number best = BaselineTtft(prompt);
        for (const Cell* cell : Only(RecycledBy(prompt, variant), IsHit)) {
          ++hits;
          if (best) saved.push_back(*best - cell->ttft_ms);
        }
      }
      const Number per_hit = Mean(saved);
      const Number uses = sum.entries > 0 ? Quotient(Number(sum.save_ms), per_hit) : std::nullopt;
      table.Row(scope, {}, variant,
                {Count(hits), Ms(per_hit), Formatted("%.2f", uses),
                 Formatted("%.3f", Quotient(uses, Number(static_cast<double>(sum.entries))))});
    }
  }
  return table.Finish();
}

Table LimitsTable(const std::vector<Scope>& scopes) {
  Builder table("limits", "Misses and limits", "@ <outcome <limited_by cells prompts",
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
        table.Row(scope, {}, variant,
                  {Text(key.first), Text(key.second), Count(count.first), Count(count.second)});
      }
    }
  }
  return table.Finish();
}

}  // namespace

Report BuildReport(std::span<const record::Run> runs) {
  const std::vector<Scope> scopes = ScopesOf(runs);
  Report report;
  report.one_scope = scopes.size() < 2;
  for (const Run& run : runs) DescribeRun(run, report);
  for (const Scope& scope : scopes) {
    DescribeScope(scope, report);
    Claim(scope, report);
  }
  report.tables = {PaperTable(scopes),     PromptTable(scopes),   SpeedTable(scopes),
                   MarkTable(scopes),      PhaseTable(scopes),    FidelityTable(scopes),
                   ControlTable(scopes),   BaselineTable(scopes), ExactnessTable(scopes),
                   FoundTable(scopes),     DepthTable(scopes),    FillTable(scopes),
                   BreakEvenTable(scopes), CodecTable(scopes),    LimitsTable(scopes)};

  std::set<std::string> models, precisions, codecs;
  std::set<std::optional<std::int64_t>> candidates;
  for (const Scope& scope : scopes) {
    models.insert(scope.model);
    precisions.insert(scope.precision);
    for (const Variant& variant : scope.variants) {
      codecs.insert(variant.codec);
      if (variant.policy == "embedding") candidates.insert(variant.candidates);
    }
  }
  for (Table& table : report.tables) {
    table.columns[0].constant = runs.size() < 2;
    table.columns[1].constant = models.size() < 2;
    table.columns[2].constant = precisions.size() < 2;
    for (Column& column : table.columns) {
      if (column.key == "candidates") column.constant = candidates.size() < 2;
      if (column.key == "codec" && table.name != "codecs") column.constant = codecs.size() < 2;
    }
  }
  return report;
}

}  // namespace kvr::report
