#include "samples.h"

namespace kvr::report {
namespace {

// The decoded cells' medians by `time`, if there are enough.
template <typename Time>
std::optional<Totals> MedianTotals(const Cells& baseline, const Cells& recycled,
                                   std::int64_t new_tokens, Time time) {
  const Samples base = Collect(baseline, time), own = Collect(recycled, time);
  if (base.size() < kFewestDecoded || own.size() < kFewestDecoded) return std::nullopt;
  return Totals{new_tokens, *Median(base), *Median(own)};
}

auto TimeAt(std::int64_t mark) {
  return [mark](const Cell& cell) -> Number {
    if (!cell.totals_ms) return std::nullopt;
    const auto found = cell.totals_ms->find(mark);
    return found == cell.totals_ms->end() ? Number() : Number(found->second);
  };
}

// The new tokens that decoded cells of both arms have; less than all where `to_a_mark` is set.
struct Length {
  std::int64_t new_tokens = 0;
  bool to_a_mark = false;
};
std::optional<Length> CommonLength(const Cells& baseline, const Cells& recycled) {
  Cells cells = Only(baseline, IsFull);
  const Cells own = Only(recycled, IsFull);
  if (cells.empty() || own.empty()) return std::nullopt;
  cells.insert(cells.end(), own.begin(), own.end());
  const auto same = [&](const Cell* cell) { return cell->new_tokens == cells[0]->new_tokens; };
  if (std::all_of(cells.begin(), cells.end(), same)) return Length{cells[0]->new_tokens, false};
  if (!cells[0]->totals_ms) return std::nullopt;
  for (auto mark = cells[0]->totals_ms->rbegin(); mark != cells[0]->totals_ms->rend(); ++mark) {
    if (std::ranges::all_of(cells,
                            [&](const Cell* c) { return TimeAt(mark->first)(*c).has_value(); })) {
      return Length{mark->first, true};
    }
  }
  return std::nullopt;
}

// A sweep writes its cells in random order. Here: prompts by their ids, t2 before t10; embedding
// before prefix; whole, token, block; codecs from exact to coarse.
void SortScope(Scope* scope) {
  std::sort(scope->prompts.begin(), scope->prompts.end(),
            [](const PromptCells& a, const PromptCells& b) {
              return std::tuple(a.id.size(), a.id, a.workload) <
                     std::tuple(b.id.size(), b.id, b.workload);
            });
  std::sort(
      scope->variants.begin(), scope->variants.end(), [&](const Variant& a, const Variant& b) {
        return std::tuple(a.policy, b.match, scope->PlaceOf(a.codec), a.candidates, b.page_cache) <
               std::tuple(b.policy, a.match, scope->PlaceOf(b.codec), b.candidates, a.page_cache);
      });
}

// A group that shares a token with the cache after all is no control.
void FindControlsWithHits(Scope* scope) {
  for (const PromptCells& prompt : scope->prompts) {
    if (!prompt.control_group) continue;
    for (const auto& [variant, cells] : prompt.recycled) {
      if (CountIf(cells, IsHit) > 0) scope->controls_with_hits.insert(prompt.workload);
    }
  }
  for (PromptCells& prompt : scope->prompts) {
    if (scope->controls_with_hits.contains(prompt.workload)) prompt.control_group = false;
  }
}

Scope NewScope(const Run& run, const std::string& model, const std::string& precision) {
  Scope scope;
  scope.run = &run;
  scope.model = model;
  scope.precision = precision;
  for (const ModelInfo& info : run.models) {
    if (info.name == model && info.precision == precision) scope.info = &info;
  }
  return scope;
}

PromptCells PromptOf(const Cell& cell, const Run& run) {
  PromptCells prompt;
  prompt.workload = cell.workload;
  prompt.id = cell.prompt_id;
  prompt.cluster = ClusterOf(cell);
  prompt.tokens = cell.prompt_tokens;
  prompt.control_group = std::find(run.control_groups.begin(), run.control_groups.end(),
                                   cell.workload) != run.control_groups.end();
  return prompt;
}

void AddCell(const Cell& cell, Scope* scope, PromptCells* prompt) {
  if (cell.is_null()) {
    scope->has_null = true;
    prompt->recycled[NullVariant()].push_back(&cell);
  } else if (cell.recycled()) {
    const Variant variant = VariantOf(cell);
    if (std::find(scope->variants.begin(), scope->variants.end(), variant) ==
        scope->variants.end()) {
      scope->variants.push_back(variant);
    }
    prompt->recycled[variant].push_back(&cell);
  } else if (cell.control) {
    prompt->second.push_back(&cell);
  } else {
    (cell.schedule == scope->Schedule() ? prompt->baseline : prompt->other_baseline)
        .push_back(&cell);
  }
}

}  // namespace

std::string Variant::Title() const {
  std::string title = policy;
  if (match) title += "/" + *match;
  if (codec != "fp32") title += ", " + codec;
  if (candidates) {
    title += ", " + std::to_string(*candidates) + (*candidates == 1 ? " candidate" : " candidates");
  }
  if (page_cache != "warm") title += ", " + page_cache;
  return title;
}

Variant VariantOf(const Cell& cell) {
  return {cell.policy, cell.match, CodecOf(cell), cell.candidates,
          cell.asked_page_cache.value_or("warm")};
}

const Variant& NullVariant() {
  static const Variant null{"off", std::nullopt, "fp32", std::nullopt, "warm"};
  return null;
}

std::string Scope::Title() const { return run->label + ", " + model + " (" + precision + ")"; }

std::string Scope::Schedule() const { return info ? info->baseline_schedule : "block"; }

double Scope::Margin() const {
  const auto margin = run->config.find("margin");
  return margin != run->config.end() && margin->is_number() ? margin->get<double>() : 0.03;
}

CodecPlace Scope::PlaceOf(const std::string& codec) const {
  if (codec == "fp32") return {0, 0, codec};
  if (info == nullptr) return {2, 0, codec};
  const auto bytes = info->stored_bytes_per_token.find(codec);
  if (bytes == info->stored_bytes_per_token.end()) return {2, 0, codec};
  return {1, -bytes->second, codec};
}

std::vector<Variant> Scope::NullAndVariants() const {
  std::vector<Variant> all = variants;
  if (has_null) all.insert(all.begin(), NullVariant());
  return all;
}

bool BreaksItsClaim(const Cell& cell) {
  return cell.exact_claimed && cell.fidelity &&
         (!cell.fidelity->exact || !HasSameTokens(cell) ||
          cell.fidelity->max_abs_logit_diff.value_or(0.0) != 0.0);
}

std::optional<std::size_t> FirstDifference(const Cell& a, const Cell& b) {
  const Cell& shorter = a.tokens.size() < b.tokens.size() ? a : b;
  const auto [at, other] =
      std::mismatch(a.tokens.begin(), a.tokens.end(), b.tokens.begin(), b.tokens.end());
  const auto index = static_cast<std::size_t>(at - a.tokens.begin());
  if (index < shorter.tokens.size()) return index;
  const bool cut_there =
      !a.full || !b.full || (shorter.totals_ms && shorter.totals_ms->contains(shorter.new_tokens));
  if (a.tokens.size() == b.tokens.size() || cut_there) return std::nullopt;
  return index;
}

Number Overhead(const Cell& cell) {
  if (!cell.embed_ms && !cell.lookup_ms) return std::nullopt;
  return cell.embed_ms.value_or(0) + cell.lookup_ms.value_or(0);
}

Number OverheadShare(const Cell& cell) { return Quotient(Overhead(cell), Number(cell.ttft_ms)); }

Number Quotient(Number numerator, Number denominator) {
  if (!numerator || !denominator || !(*denominator > 0)) return std::nullopt;
  return *numerator / *denominator;
}
Number Quotient(std::int64_t numerator, std::int64_t denominator) {
  return Quotient(Number(static_cast<double>(numerator)), Number(static_cast<double>(denominator)));
}

const Cells& RecycledBy(const PromptCells& prompt, const Variant& variant) {
  static const Cells none;
  const auto found = prompt.recycled.find(variant);
  return found == prompt.recycled.end() ? none : found->second;
}

Cells AllRecycledBy(const std::vector<const PromptCells*>& prompts, const Variant& variant) {
  Cells all;
  for (const PromptCells* prompt : prompts) {
    const Cells& cells = RecycledBy(*prompt, variant);
    all.insert(all.end(), cells.begin(), cells.end());
  }
  return all;
}

std::vector<const PromptCells*> Pointers(const std::vector<PromptCells>& prompts) {
  std::vector<const PromptCells*> pointers;
  pointers.reserve(prompts.size());
  for (const PromptCells& prompt : prompts) pointers.push_back(&prompt);
  return pointers;
}

Number BaselineTtft(const PromptCells& prompt) { return MedianOf(prompt.baseline, &Cell::ttft_ms); }

Number TtftSpeedup(const PromptCells& prompt, const Cells& cells) {
  return Quotient(BaselineTtft(prompt), MedianOf(cells, &Cell::ttft_ms));
}

std::optional<Totals> TotalsOf(const Cells& baseline, const Cells& recycled) {
  const std::optional<Length> length = CommonLength(baseline, recycled);
  if (!length) return std::nullopt;
  if (length->to_a_mark) return TotalsAt(baseline, recycled, length->new_tokens);
  return MedianTotals(Only(baseline, IsFull), Only(recycled, IsFull), length->new_tokens,
                      &Cell::total_ms);
}

std::optional<Totals> TotalsAt(const Cells& baseline, const Cells& recycled, std::int64_t mark) {
  return MedianTotals(baseline, recycled, mark, TimeAt(mark));
}

Number DecodeRatio(const Cells& baseline, const Cells& recycled) {
  const std::optional<Length> length = CommonLength(baseline, recycled);
  if (!length || length->new_tokens < 2) return std::nullopt;
  const auto decoding = [&](const Cell& cell) -> Number {
    if (!cell.full) return std::nullopt;
    if (!length->to_a_mark) return cell.decode_ms;
    return *TimeAt(length->new_tokens)(cell) - cell.ttft_ms;
  };
  const Samples base = Collect(baseline, decoding), own = Collect(recycled, decoding);
  if (base.size() < kFewestDecoded || own.size() < kFewestDecoded) return std::nullopt;
  return Quotient(Median(own), Median(base));
}

std::optional<Estimate> TtftEstimate(const std::vector<const PromptCells*>& prompts,
                                     const Variant& variant) {
  return EstimateOver(prompts,
                      [&](const PromptCells& p) { return TtftSpeedup(p, RecycledBy(p, variant)); });
}

std::optional<Estimate> TotalEstimate(const std::vector<const PromptCells*>& prompts,
                                      const Variant& variant) {
  return EstimateOver(prompts, [&](const PromptCells& p) {
    const std::optional<Totals> totals = TotalsOf(p.baseline, RecycledBy(p, variant));
    return totals ? totals->speedup() : Number();
  });
}

std::optional<Estimate> TotalEstimateAt(const std::vector<const PromptCells*>& prompts,
                                        const Variant& variant, std::int64_t mark) {
  return EstimateOver(prompts, [&](const PromptCells& p) {
    const std::optional<Totals> totals = TotalsAt(p.baseline, RecycledBy(p, variant), mark);
    return totals ? totals->speedup() : Number();
  });
}

std::optional<Estimate> PrefillEstimate(const std::vector<const PromptCells*>& prompts,
                                        const Variant& variant) {
  return EstimateOver(prompts, [&](const PromptCells& p) {
    return Quotient(MedianOf(RecycledBy(p, variant), &Cell::prefill_ms),
                    MedianOf(p.baseline, &Cell::prefill_ms));
  });
}

std::optional<Estimate> DecodeEstimate(const std::vector<const PromptCells*>& prompts,
                                       const Variant& variant) {
  return EstimateOver(prompts, [&](const PromptCells& p) {
    return DecodeRatio(p.baseline, RecycledBy(p, variant));
  });
}

std::vector<std::string> WindowsOf(const Scope& scope) {
  std::vector<std::string> windows;
  for (const PromptCells& prompt : scope.prompts) {
    if (prompt.baseline.empty() || !prompt.baseline.front()->turn) continue;
    if (std::find(windows.begin(), windows.end(), prompt.workload) == windows.end()) {
      windows.push_back(prompt.workload);
    }
  }
  return windows;
}

std::set<std::int64_t> MarksOf(const Scope& scope) {
  std::set<std::int64_t> marks;
  for (const PromptCells& prompt : scope.prompts) {
    for (const Cell* cell : prompt.baseline) {
      if (!cell->totals_ms) continue;
      for (const auto& [mark, ms] : *cell->totals_ms) marks.insert(mark);
    }
  }
  return marks;
}

std::vector<Scope> ScopesOf(std::span<const Run> runs) {
  std::vector<Scope> scopes;
  for (const Run& run : runs) {
    const std::size_t first = scopes.size();
    std::map<std::pair<std::string, std::string>, std::size_t> scope_at;
    std::map<std::tuple<std::size_t, std::string, std::string>, std::size_t> prompt_at;
    const auto scope_of = [&](const std::string& model, const std::string& precision) {
      const auto [slot, fresh] = scope_at.try_emplace({model, precision}, scopes.size() - first);
      if (fresh) scopes.push_back(NewScope(run, model, precision));
      return slot->second;
    };
    for (const Lookup& lookup : run.lookups) (void)scope_of(lookup.model, lookup.precision);
    for (const Cell& cell : run.cells) {
      const std::size_t at = scope_of(cell.model, cell.precision);
      Scope& scope = scopes[first + at];
      const auto [prompt_slot, new_prompt] =
          prompt_at.try_emplace({at, cell.workload, cell.prompt_id}, scope.prompts.size());
      if (new_prompt) scope.prompts.push_back(PromptOf(cell, run));
      AddCell(cell, &scope, &scope.prompts[prompt_slot->second]);
    }
    for (std::size_t i = first; i < scopes.size(); ++i) {
      SortScope(&scopes[i]);
      FindControlsWithHits(&scopes[i]);
    }
  }
  return scopes;
}

std::vector<Cohort> CohortsOf(const Scope& scope) {
  std::vector<Cohort> cohorts;
  for (const PromptCells& prompt : scope.prompts) {
    auto found = std::find_if(cohorts.begin(), cohorts.end(),
                              [&](const Cohort& c) { return c.label == prompt.workload; });
    if (found == cohorts.end()) found = cohorts.insert(found, Cohort{prompt.workload, {}});
    found->prompts.push_back(&prompt);
  }
  Cohort rest{"all but control", AllButControls(scope), true};
  if (!rest.prompts.empty()) cohorts.push_back(std::move(rest));
  return cohorts;
}

std::vector<const PromptCells*> AllButControls(const Scope& scope) {
  std::vector<const PromptCells*> prompts = Pointers(scope.prompts);
  std::erase_if(prompts, [](const PromptCells* prompt) { return prompt->control_group; });
  return prompts;
}

std::vector<const PromptCells*> Controls(const Scope& scope) {
  std::vector<const PromptCells*> prompts = Pointers(scope.prompts);
  std::erase_if(prompts, [](const PromptCells* prompt) { return !prompt->control_group; });
  return prompts;
}

const Variant* PapersVariant(const Scope& scope) {
  const auto distance = [&](const Variant& v) {
    return std::tuple(v.policy != "embedding", v.match != "whole", scope.PlaceOf(v.codec),
                      v.candidates.value_or(5), v.page_cache != "warm");
  };
  const auto nearest = std::min_element(
      scope.variants.begin(), scope.variants.end(),
      [&](const Variant& a, const Variant& b) { return distance(a) < distance(b); });
  return nearest == scope.variants.end() ? nullptr : &*nearest;
}

}  // namespace kvr::report
