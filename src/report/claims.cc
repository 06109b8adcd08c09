// What the tables say, in sentences.
#include <spdlog/fmt/fmt.h>

#include "findings.h"
#include "kvr/record/holm.h"
#include "lookups.h"
#include "values.h"

namespace kvr::report {
namespace {

std::string Counted(std::int64_t count, const char* what) {
  return fmt::format("{} {}{}", count, what, count == 1 ? "" : "s");
}

// "1.52x (1.40 to 1.66; 28 prompts)"
std::string Said(const Estimate& estimate) {
  std::string out = Print("%.2fx (", estimate.ratio());
  if (const std::optional<Interval> interval = estimate.RatioInterval()) {
    out += "95 %: " + Print("%.2f", interval->low) + " to " + Print("%.2f", interval->high);
  } else {
    out += "too few prompts for an interval";
  }
  return out + "; " + Counted(static_cast<std::int64_t>(estimate.prompts), "prompt") + ")";
}

// How table no_overlap judges the estimate: adjusted over its rows, which are all ways of all
// scopes.
template <typename EstimateOf>
bool DiffersInItsTable(std::span<const Scope> scopes, const Estimate& own, EstimateOf estimate_of) {
  std::vector<double> p_values;
  for (const Scope& scope : scopes) {
    for (const Variant& variant : scope.NullAndVariants()) {
      const std::optional<Estimate> estimate = estimate_of(Controls(scope), variant);
      const Number p = estimate ? PValue(*estimate) : std::nullopt;
      if (p) p_values.push_back(*p);
    }
  }
  const std::vector<double> adjusted = HolmAdjusted(p_values);
  for (std::size_t i = 0; i < adjusted.size(); ++i) {
    if (p_values[i] == PValue(own)) return adjusted[i] <= kLevel;  // equal ones are judged alike
  }
  return false;
}

template <typename EstimateOf>
std::string SaidOfControls(const char* what, std::span<const Scope> scopes, const Scope& scope,
                           const Variant& variant, EstimateOf estimate_of) {
  const std::optional<Estimate> estimate = estimate_of(Controls(scope), variant);
  if (!estimate) return std::string(what) + " not measured";
  std::string out = what + Print(" %+.1f %%", 100 * (estimate->ratio() - 1));
  const std::optional<Equivalence> test = TestEquivalence(*estimate, scope.Margin());
  if (!test) return out + ", too few prompts for a verdict";
  out += Print(" (90 %% interval %+.1f", 100 * (test->interval.low - 1)) +
         Print(" to %+.1f %%), ", 100 * (test->interval.high - 1));
  if (test->verdict == Verdict::kEquivalent) {
    out += Print("equivalent within %.0f %%", 100 * scope.Margin());
  } else {
    out += ToString(DiffersInItsTable(scopes, *estimate, estimate_of) ? Verdict::kDiffers
                                                                      : Verdict::kUndecided);
  }
  return out + Print("; it could have seen %.1f %%", 100 * test->detectable);
}

// Of the look-ups among the most entries.
void ClaimLookups(const Scope& scope, const std::string& at, Report& report) {
  const std::vector<LookupGroup> groups = LookupGroupsOf(scope);
  for (const LookupGroup& group : groups) {
    if (group.first->distractors != groups.back().first->distractors) continue;
    const Recall recall =
        RecallOf(Only(group, [](const Lookup& lookup) { return !lookup.control; }));
    if (!recall.depth) continue;
    std::string claim = fmt::format(
        "{}{} among {}: {:.3f} of the depth that was there, all of it for {} of {}; look-up {} ms",
        at, group.Title(), std::to_string(group.first->entries) + " entries", *recall.depth,
        recall.found_all, std::to_string(recall.with_depth) + " queries",
        Ms(recall.lookup_ms).text);
    if (recall.embed_ms) claim += ", the query's embedding " + Ms(recall.embed_ms).text + " ms";
    report.claims.push_back(claim + " (medians).");
  }
}

// How many hits had the baseline's bits, and what a miss costs.
void ClaimHitsAndMisses(const Scope& scope, const std::string& at,
                        std::vector<std::string>* claims) {
  Cells hits, misses;
  for (const Variant& variant : scope.variants) {
    for (const Cell* cell : AllRecycledBy(Pointers(scope.prompts), variant)) {
      (cell->hit() ? hits : misses).push_back(cell);
    }
  }
  const Cells to_the_end = Only(hits, IsComparedToTheEnd);
  const Cells at_first = Only(hits, IsComparedAtFirst);
  if (!hits.empty()) {
    claims->push_back(fmt::format(
        "{}Bit for bit the baseline's: {} of {} compared to the end, {} of {} at the first token "
        "only.",
        at, CountIf(to_the_end, IsExact), Counted(std::ssize(to_the_end), "hit"),
        CountIf(at_first, IsExact), at_first.size()));
  }
  if (const Number ms = MedianOf(misses, Overhead)) {
    claims->push_back(at + "A miss costs embedding and lookup: " + Print("%.2f ms, ", *ms) +
                      Print("%.1f %% of its time to the first token",
                            100 * MedianOf(misses, OverheadShare).value_or(0)) +
                      " (medians of " + Counted(std::ssize(misses), "miss cell") + ").");
  }
}

}  // namespace

void Claim(const Scope& scope, std::span<const Scope> scopes, Report& report) {
  std::vector<std::string>& claims = report.claims;
  const std::string at = report.one_scope ? "" : scope.Title() + ": ";
  const std::vector<const PromptCells*> tested = AllButControls(scope);
  const Variant* const papers = PapersVariant(scope);
  const auto speed = [&](const Variant& variant) {
    const std::optional<Estimate> ttft = TtftEstimate(tested, variant);
    if (!ttft) return;
    const Cells cells = AllRecycledBy(tested, variant);
    claims.push_back(fmt::format("{}{}: first token {} as fast; {} of {} hit.", at, variant.Title(),
                                 Said(*ttft), CountIf(cells, IsHit),
                                 Counted(std::ssize(cells), "cell")));
  };
  ClaimLookups(scope, at, report);
  if (papers != nullptr) {
    speed(*papers);
    std::string marks;
    for (const std::int64_t mark : MarksOf(scope)) {
      const std::optional<Estimate> total = TotalEstimateAt(tested, *papers, mark);
      if (!total) continue;
      marks += (marks.empty() ? "" : "; ") + Counted(mark, "token") + " " + Said(*total);
    }
    if (!marks.empty()) claims.push_back(at + papers->Title() + ", whole answer: " + marks + ".");
  }
  ClaimHitsAndMisses(scope, at, &claims);
  if (const auto null = TtftEstimate(Pointers(scope.prompts), NullVariant())) {
    claims.push_back(at + "The null variant, which recycles nothing and must read 1: first token " +
                     Said(*null) + ".");
  }
  for (const Variant& variant : scope.variants) {
    const std::vector<const PromptCells*> controls = Controls(scope);
    if (AllRecycledBy(controls, variant).empty()) continue;
    claims.push_back(at + "Prompts without overlap, " + variant.Title() + ": " +
                     SaidOfControls("prefill", scopes, scope, variant, PrefillEstimate) + ". " +
                     SaidOfControls("Decoding", scopes, scope, variant, DecodeEstimate) + ".");
    break;  // the others: table no_overlap
  }
  for (const Variant& variant : scope.variants) {
    if (&variant != papers) speed(variant);
  }
}

}  // namespace kvr::report
