// The paper's own table, and totals by number of new tokens.
#include "values.h"

namespace kvr::report {

Table PaperTable(const std::vector<Scope>& scopes) {
  Builder table(
      "paper", "The paper's table: each prompt",
      "<prompt_id:prompt new_tokens baseline_s recycled_s speedup_percent:speed-up_% "
      "reuse_depth:depth prompt_similarity:prompt_sim. output_similarity:output_sim. "
      "<policy <match <candidates:cand.",
      "Policy embedding, match whole, the nearest entry alone; where that did not run, the nearest "
      "to it that did (policy, match and cand. say which). baseline s, recycled s: seconds until "
      "so many new tokens were there, the last that all decoded cells of both arms have; for 1, "
      "to the first token, where fewer than three cells of an arm were decoded. Medians over "
      "repetitions. speed-up %: share of the baseline's time that is saved. depth: tokens reused. "
      "prompt sim.: cosine of the prompt and the entry used, or on a miss the nearest. output "
      "sim.: mean cosine of the two texts.");
  for (const Scope& scope : scopes) {
    const Variant* const variant = PapersVariant(scope);
    if (variant == nullptr) continue;
    for (const Prompt& prompt : scope.prompts) {
      const Cells& cells = RecycledBy(prompt, *variant);
      if (cells.empty()) continue;
      std::optional<Totals> totals = TotalsOf(prompt.baseline, cells);
      const Number base = BaselineTtft(prompt), own = MedianOf(cells, &Cell::ttft_ms);
      if (!totals && base && own) totals = Totals{1, *base, *own};
      const auto seconds = [&](double Totals::*ms) {
        return Formatted("%.3f", totals ? Number((*totals).*ms / 1000) : Number());
      };
      const Number saved = totals ? Quotient(Number(totals->baseline_ms - totals->recycled_ms),
                                             Number(totals->baseline_ms))
                                  : Number();
      table.Row(scope, {Text(prompt.id), totals ? Count(totals->new_tokens) : Value{},
                        seconds(&Totals::baseline_ms), seconds(&Totals::recycled_ms),
                        Formatted("%.1f", saved ? Number(*saved * 100) : Number()),
                        Formatted("%.0f", MedianOf(cells, Depth)),
                        Formatted("%.3f", MedianOf(cells, &Cell::similarity)),
                        Semantic(cells, &Fidelity::cosine), Text(variant->policy),
                        Text(variant->match), Name(*variant)[2]});
    }
  }
  return table.Finish();
}

Table MarkTable(const std::vector<Scope>& scopes) {
  Builder table("totals", "Total speed-up by number of new tokens",
                "<workload @ new_tokens prompts total_speedup:total total_speedup_low:low "
                "total_speedup_high:high",
                "What is gained before the first token is shared by all that follow. total: "
                "geometric mean over prompts of the baseline's median time to that many new tokens "
                "over the recycled one, with its 95 % interval as in workloads; prompts with three "
                "cells or more of each arm that came so far.");
  for (const Scope& scope : scopes) {
    for (const Cohort& cohort : CohortsOf(scope)) {
      for (const Variant& variant : scope.NullAndVariants()) {
        for (const std::int64_t mark : MarksOf(scope)) {
          const std::optional<Estimate> total = TotalEstimateAt(cohort.prompts, variant, mark);
          if (!total) continue;
          const auto [low, high] = Ends(total);
          table.Row(scope, {Text(cohort.label)}, variant,
                    {Count(mark), Count(static_cast<std::int64_t>(total->prompts)), Ratio(total),
                     low, high});
        }
      }
    }
  }
  return table.Finish();
}

}  // namespace kvr::report
