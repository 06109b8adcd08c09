// A report's cells in order: scope (run, model, precision), prompt, arm; and the numbers that its
// tables share.
#pragma once

#include <algorithm>
#include <cmath>
#include <compare>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "kvr/record/run.h"
#include "kvr/record/statistics.h"

namespace kvr::report {

using namespace record;  // what a report is about: runs, cells and their statistics

using Cells = std::vector<const Cell*>;
using Samples = std::vector<double>;
using Number = std::optional<double>;

// Fewer decoded cells of an arm and prompt give no total.
inline constexpr std::size_t kFewestDecoded = 3;

// What an adjusted p-value may be at most where a row is said to differ.
inline constexpr double kLevel = 0.05;

// How the recycled arm ran.
struct Variant {
  std::string policy;
  std::optional<std::string> match;
  std::string codec;
  std::optional<std::int64_t> candidates;
  std::string page_cache;  // "cold", or "warm": also where the run does not say
  auto operator<=>(const Variant&) const = default;
  // "embedding/whole, 1 candidate"
  [[nodiscard]] std::string Title() const;
};

// Of a recycled cell that is not the null variant's.
[[nodiscard]] Variant VariantOf(const Cell& cell);

// The recycled arm that recycles nothing: the baseline's work through the whole pipeline.
[[nodiscard]] const Variant& NullVariant();

struct PromptCells {
  std::string workload, id;
  std::string cluster;         // prompts that share a cached parent have the same
  bool control_group = false;  // its workload shares nothing with the cache
  std::int64_t tokens = 0;
  Cells baseline;        // of the run's one schedule
  Cells other_baseline;  // of the other schedule, which nothing is compared with
  Cells second;          // the baseline once more
  std::map<Variant, Cells> recycled;
};

// Orders codecs: the exact one, then by bytes that the run says they take, most first, those of
// which it says nothing last; then by name.
using CodecPlace = std::tuple<int, std::int64_t, std::string>;

struct Scope {
  const Run* run = nullptr;
  std::string model, precision;
  const ModelInfo* info = nullptr;  // null when run.json does not name the model
  std::vector<PromptCells> prompts;
  std::vector<Variant> variants;  // but the null variant
  bool has_null = false;
  std::set<std::string> controls_with_hits;  // named as control groups; not used as such

  [[nodiscard]] std::string Title() const;
  [[nodiscard]] std::string Schedule() const;  // the one baseline's
  // What the controls may differ by and still be called equivalent: the config's "margin", or 3 %.
  [[nodiscard]] double Margin() const;
  [[nodiscard]] std::vector<Variant> NullAndVariants() const;
  [[nodiscard]] CodecPlace PlaceOf(const std::string& codec) const;
};

// Prompts that an aggregate row is about.
struct Cohort {
  std::string label;
  std::vector<const PromptCells*> prompts;
  bool of_all = false;  // of all workloads but the controls
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

inline bool IsFull(const Cell& cell) { return cell.full; }
inline bool IsHit(const Cell& cell) { return cell.hit(); }
inline bool IsCompared(const Cell& cell) { return cell.fidelity.has_value(); }
inline bool IsComparedToTheEnd(const Cell& cell) { return cell.full && IsCompared(cell); }
inline bool IsComparedAtFirst(const Cell& cell) { return !cell.full && IsCompared(cell); }
inline bool IsExact(const Cell& cell) { return cell.fidelity && cell.fidelity->exact; }
inline bool HasSameTokens(const Cell& cell) {
  return cell.fidelity && !cell.fidelity->first_divergence.has_value();
}
inline bool HasZeroDifference(const Cell& cell) {
  return cell.fidelity && cell.fidelity->max_abs_logit_diff == 0.0;
}
// The cell was said to be exact, and something in its record says that it was not.
[[nodiscard]] bool BreaksItsClaim(const Cell& cell);

// A number of the cell's fidelity; nothing where the cell was not compared.
inline auto OfFidelity(Number Fidelity::*member) {
  return [member](const Cell& cell) { return cell.fidelity ? (*cell.fidelity).*member : Number(); };
}

// Of a recycled cell or of what an entry's saving cost. Before there were others, it was fp32.
template <typename T>
std::string CodecOf(const T& record) {
  return record.codec.value_or("fp32");
}

// The index of the first new token at which two outputs part: one differs there, or ends although
// it might have gone on. Nothing where they are equal as far as both were to go.
[[nodiscard]] std::optional<std::size_t> FirstDifference(const Cell& a, const Cell& b);

inline Number Depth(const Cell& cell) { return static_cast<double>(cell.reuse_depth); }
// Embedding and lookup: what a miss costs.
[[nodiscard]] Number Overhead(const Cell& cell);
[[nodiscard]] Number OverheadShare(const Cell& cell);

[[nodiscard]] Number Quotient(Number numerator, Number denominator);
[[nodiscard]] Number Quotient(std::int64_t numerator, std::int64_t denominator);

[[nodiscard]] const Cells& RecycledBy(const PromptCells& prompt, const Variant& variant);
[[nodiscard]] Cells AllRecycledBy(const std::vector<const PromptCells*>& prompts,
                                  const Variant& variant);
[[nodiscard]] std::vector<const PromptCells*> Pointers(const std::vector<PromptCells>& prompts);

[[nodiscard]] Number BaselineTtft(const PromptCells& prompt);
[[nodiscard]] Number TtftSpeedup(const PromptCells& prompt, const Cells& cells);

// Two arms' median times until the same number of new tokens was there.
struct Totals {
  std::int64_t new_tokens = 0;
  double baseline_ms = 0, recycled_ms = 0;
  [[nodiscard]] Number speedup() const {
    return Quotient(Number(baseline_ms), Number(recycled_ms));
  }
};
// Up to the last token where all decoded cells of both arms have as many, else up to the last mark
// that all of them reached. Nothing where there is none, or for fewer than kFewestDecoded cells.
[[nodiscard]] std::optional<Totals> TotalsOf(const Cells& baseline, const Cells& recycled);
// At one mark, of the cells that reached it.
[[nodiscard]] std::optional<Totals> TotalsAt(const Cells& baseline, const Cells& recycled,
                                             std::int64_t mark);
// Decoding over as many tokens of either arm: recycled over baseline, of kFewestDecoded cells each.
[[nodiscard]] Number DecodeRatio(const Cells& baseline, const Cells& recycled);

// The mean over prompts of the log of what `ratio` gives for a prompt; prompts for which it gives
// nothing are left out.
template <typename Ratio>
std::optional<Estimate> EstimateOver(const std::vector<const PromptCells*>& prompts, Ratio ratio) {
  std::vector<Observation> observations;
  for (const PromptCells* prompt : prompts) {
    const Number value = ratio(*prompt);
    if (value && *value > 0) {
      observations.push_back({prompt->workload, prompt->cluster, std::log(*value)});
    }
  }
  return StratifiedMean(observations);
}

// Of a variant over prompts: TTFT speedup, hits and misses alike.
[[nodiscard]] std::optional<Estimate> TtftEstimate(const std::vector<const PromptCells*>& prompts,
                                                   const Variant& variant);
[[nodiscard]] std::optional<Estimate> TotalEstimate(const std::vector<const PromptCells*>& prompts,
                                                    const Variant& variant);
[[nodiscard]] std::optional<Estimate> TotalEstimateAt(
    const std::vector<const PromptCells*>& prompts, const Variant& variant, std::int64_t mark);
// Recycled over baseline, as a control: of prefill, and of decoding per token.
[[nodiscard]] std::optional<Estimate> PrefillEstimate(
    const std::vector<const PromptCells*>& prompts, const Variant& variant);
[[nodiscard]] std::optional<Estimate> DecodeEstimate(const std::vector<const PromptCells*>& prompts,
                                                     const Variant& variant);

// The window rules of the scope's conversations, in the order of their first prompts; none where no
// prompt is a turn of one.
[[nodiscard]] std::vector<std::string> WindowsOf(const Scope& scope);

// All marks of new tokens that the scope's cells have.
[[nodiscard]] std::set<std::int64_t> MarksOf(const Scope& scope);

[[nodiscard]] std::vector<Scope> ScopesOf(std::span<const Run> runs);

// One cohort per workload, in the order of their first prompts, and all workloads but the control
// groups.
[[nodiscard]] std::vector<Cohort> CohortsOf(const Scope& scope);
// The last of these alone, and the control groups' prompts.
[[nodiscard]] std::vector<const PromptCells*> AllButControls(const Scope& scope);
[[nodiscard]] std::vector<const PromptCells*> Controls(const Scope& scope);

// The variant that the paper describes, by embedding, whole, the nearest entry alone; else the
// nearest to it that ran. Null where none ran.
[[nodiscard]] const Variant* PapersVariant(const Scope& scope);

}  // namespace kvr::report
