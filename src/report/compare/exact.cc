// What must be equal exactly: a loss is a regression, whatever the clock says.
#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <limits>
#include <tuple>

#include "compare.h"

namespace kvr::report {
namespace {

// A field's value: a number to compare by, or else words alone.
struct FieldValue {
  double number = 0;
  std::string text;
};
using Field = std::optional<FieldValue>;

Field Shows(std::optional<std::int64_t> count) {
  if (!count) return std::nullopt;
  return FieldValue{static_cast<double>(*count), std::to_string(*count)};
}
Field ShowsTruth(bool truth) { return FieldValue{truth ? 1.0 : 0.0, truth ? "true" : "false"}; }

template <auto Member>
Field OfWork(const Cell& cell) {
  return cell.work ? Shows(std::optional<std::int64_t>((*cell.work).*Member)) : std::nullopt;
}

// What must hold of a pair of cells for a field to be judged.
struct Compared {
  const ModelPair& model;
  const Cell& base;
  const Cell& now;

  [[nodiscard]] bool Always() const { return true; }
  // An exact output is so wherever the probe holds; a lossy one's drift is the machine's.
  [[nodiscard]] bool Promised() const {
    return model.same_bits || (base.exact_claimed && model.same_probe);
  }
  [[nodiscard]] bool SameProbe() const { return model.same_probe; }
  [[nodiscard]] bool SameLength() const { return base.new_tokens == now.new_tokens; }
  [[nodiscard]] bool NotDeeper() const { return now.reuse_depth <= base.reuse_depth; }
  [[nodiscard]] bool SameDepth() const { return now.reuse_depth == base.reuse_depth; }
  // Off the schedule, the run's calibration decides how a baseline's prompt is cut; and on another
  // machine another output may end sooner.
  [[nodiscard]] bool SameCuts() const {
    const bool baseline = base.policy == "off";
    return model.same_cuts && (!baseline || model.same_baseline) &&
           (model.same_bits || SameLength());
  }
};

enum class Better { kMore, kLess, kSame };

struct Rule {
  const char* field;
  Better better;
  bool (Compared::*when)() const;
  Field (*get)(const Cell& cell);
};

// Work at another depth is not compared where it follows the depth.
constexpr Rule kRules[] = {
    {"prompt_tokens", Better::kSame, &Compared::Always,
     [](const Cell& cell) { return Shows(cell.prompt_tokens); }},
    {"outcome", Better::kMore, &Compared::Always,
     [](const Cell& cell) {
       return Field({cell.hit() ? 1.0 : 0.0, cell.outcome});
     }},
    {"reuse_depth", Better::kMore, &Compared::Always,
     [](const Cell& cell) { return Shows(cell.reuse_depth); }},
    {"limited_by", Better::kSame, &Compared::NotDeeper,
     [](const Cell& cell) {
       return Field({0.0, cell.limited_by.value_or("null")});
     }},
    {"available_depth", Better::kMore, &Compared::Always,
     [](const Cell& cell) { return Shows(cell.available_depth); }},
    {"exact_claimed", Better::kMore, &Compared::SameProbe,
     [](const Cell& cell) { return ShowsTruth(cell.exact_claimed); }},
    {"exact", Better::kMore, &Compared::Promised,
     [](const Cell& cell) { return cell.fidelity ? ShowsTruth(cell.fidelity->exact) : Field(); }},
    {"first_divergence", Better::kMore, &Compared::Promised,
     [](const Cell& cell) {
       if (!cell.fidelity) return Field();
       if (cell.fidelity->first_divergence) return Shows(cell.fidelity->first_divergence);
       return Field({std::numeric_limits<double>::infinity(), "none"});
     }},
    {"compared_tokens", Better::kMore, &Compared::SameLength,
     [](const Cell& cell) {
       return cell.fidelity ? Shows(cell.fidelity->compared_tokens) : Field();
     }},
    {"restored_bytes", Better::kLess, &Compared::SameDepth,
     [](const Cell& cell) { return Shows(cell.restored_bytes); }},
    {"prefilled_tokens", Better::kLess, &Compared::Always, OfWork<&Work::prefilled_tokens>},
    {"forward_passes", Better::kLess, &Compared::SameCuts, OfWork<&Work::forward_passes>},
    {"restored_blocks", Better::kLess, &Compared::SameDepth, OfWork<&Work::restored_blocks>},
    {"compared_entries", Better::kLess, &Compared::Always, OfWork<&Work::compared_entries>},
    {"opened_files", Better::kLess, &Compared::SameDepth, OfWork<&Work::opened_files>},
};

// Whether the field got worse, or better; nothing where it is as it was, or was not recorded.
std::optional<bool> GotWorse(const Field& was, const Field& is, Better better) {
  if (!was) return std::nullopt;
  if (!is) return true;
  if (better == Better::kSame) {
    return was->text == is->text && was->number == is->number ? std::nullopt : std::optional(true);
  }
  if (was->number == is->number) {
    return was->text == is->text ? std::nullopt : std::optional(true);
  }
  return (is->number < was->number) == (better == Better::kMore);
}

// Collects changes; the same one in several repetitions is one.
class Changes {
 public:
  explicit Changes(std::vector<ExactChange>* changes) : changes_(changes) {}

  void Add(bool regression, const Cell& cell, const char* field, const std::string& was,
           const std::string& is) {
    const ExactCase of = CaseOf(cell);
    const auto [at, fresh] =
        places_.emplace(std::tuple(of, regression, std::string(field), was, is), changes_->size());
    if (fresh) changes_->push_back({of, regression, field, was, is, {}});
    (*changes_)[at->second].repetitions.push_back(cell.repetition);
  }

 private:
  std::vector<ExactChange>* changes_;
  std::map<std::tuple<ExactCase, bool, std::string, std::string, std::string>, std::size_t> places_;
};

void CompareTokens(const Cell& was, const Cell& is, Changes* changes) {
  if (was.tokens == is.tokens) return;
  const auto [a, b] =
      std::mismatch(was.tokens.begin(), was.tokens.end(), is.tokens.begin(), is.tokens.end());
  const auto said = [](const Tokens& tokens, auto at) {
    return at == tokens.end() ? fmt::format("{} tokens", tokens.size())
                              : fmt::format("{} at place {}", *at, at - tokens.begin());
  };
  changes->Add(true, is, "tokens", said(was.tokens, a), said(is.tokens, b));
}

void ComparePair(const CellPair& pair, const ModelPair& model, Changes* changes) {
  const Compared setting{model, *pair.base, *pair.now};
  for (const Rule& rule : kRules) {
    if (!(setting.*rule.when)()) continue;
    const Field was = rule.get(*pair.base), is = rule.get(*pair.now);
    const std::optional<bool> worse = GotWorse(was, is, rule.better);
    if (worse) changes->Add(*worse, *pair.now, rule.field, was->text, is ? is->text : "null");
  }
  if (model.same_bits) CompareTokens(*pair.base, *pair.now, changes);
  // Wherever it runs, and whatever BASE did.
  if (BreaksItsClaim(*pair.now)) changes->Add(true, *pair.now, "claim", "exact", "not exact");
}

// The probe's verdict on one machine is the program's own doing.
void CompareProbes(const std::map<ModelKey, ModelPair>& models, std::vector<ExactChange>* changes) {
  for (const auto& [key, pair] : models) {
    if (!pair.same_bits || pair.base->probe_exact != true || pair.now->probe_exact == true) {
      continue;
    }
    changes->push_back({{key.first, key.second, "all prompts", "start-up probe"},
                        true,
                        "probe.exact",
                        "true",
                        pair.now->probe_exact ? "false" : "null",
                        {}});
  }
}

void NoteWhatBaseLacks(const std::vector<CellPair>& pairs, std::vector<std::string>* notes) {
  const auto count = [&](auto lacks) {
    return std::ranges::count_if(
        pairs, [&](const CellPair& pair) { return lacks(*pair.base) && !lacks(*pair.now); });
  };
  const auto work = count([](const Cell& cell) { return !cell.work; });
  const auto fidelity = count([](const Cell& cell) { return !cell.fidelity; });
  if (work > 0) {
    notes->push_back(fmt::format("work is not compared in {} cells: BASE did not count it", work));
  }
  if (fidelity > 0) {
    notes->push_back(fmt::format(
        "exactness is not compared in {} cells, which BASE did not compare with its baseline",
        fidelity));
  }
}

// On another machine: how many outputs are equal all the same.
void NoteTokens(const std::vector<CellPair>& pairs, const std::map<ModelKey, ModelPair>& models,
                std::vector<std::string>* notes) {
  std::int64_t left_out = 0, equal = 0;
  for (const CellPair& pair : pairs) {
    if (models.at({pair.now->model, pair.now->precision}).same_bits) continue;
    ++left_out;
    if (pair.base->tokens == pair.now->tokens) ++equal;
  }
  if (left_out > 0) {
    notes->push_back(
        fmt::format("tokens: not judged in {} cells, of which {} have BASE's tokens all the same",
                    left_out, equal));
  }
}

}  // namespace

std::string WayOf(const Cell& cell) {
  if (cell.is_null()) return "null variant";
  if (cell.recycled()) return VariantOf(cell).Title();
  return cell.control ? "second baseline" : "baseline";
}

ExactCase CaseOf(const Cell& cell) {
  return {cell.model, cell.precision, cell.prompt_id, WayOf(cell)};
}

void CompareExactly(const std::vector<CellPair>& pairs, const std::map<ModelKey, ModelPair>& models,
                    Comparison* comparison) {
  CompareProbes(models, &comparison->changes);
  Changes changes(&comparison->changes);
  for (const CellPair& pair : pairs) {
    ComparePair(pair, models.at({pair.now->model, pair.now->precision}), &changes);
  }
  NoteWhatBaseLacks(pairs, &comparison->notes);
  NoteTokens(pairs, models, &comparison->notes);
}

}  // namespace kvr::report
