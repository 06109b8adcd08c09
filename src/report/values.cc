#include "values.h"

#include <spdlog/fmt/fmt.h>

#include <array>
#include <cmath>
#include <cstdio>

namespace kvr::report {

std::string Print(const char* format, double number) {
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), format, number);
  return text.data();
}

Value Text(const std::optional<std::string>& text) { return text ? Value{*text, *text} : Value{}; }
Value Count(std::int64_t count) { return {std::to_string(count), count}; }
Value Formatted(const char* format, Number number, double factor) {
  return number ? Value{Print(format, *number * factor), *number} : Value{};
}
Value Ms(Number ms) {
  const double size = std::abs(ms.value_or(0));
  if (size > 0 && size < 0.1) return Formatted("%.2g", ms);
  return Formatted(size < 10 ? "%.2f" : size < 100 ? "%.1f" : "%.0f", ms);
}
Value Times(Number ratio) { return Formatted("%.2fx", ratio); }
Value Small(Number number) { return Formatted("%.3g", number); }
Value Percent(Number share) { return Formatted("%.1f%%", share, 100); }
Value SignedPercent(Number share) { return Formatted("%+.1f%%", share, 100); }
Value Rate(std::int64_t count, std::int64_t of) {
  if (of == 0) return {};
  return {fmt::format("{} of {}", count, of), *Quotient(count, of)};
}

Value PValueOf(Number p) {
  if (p && *p < 0.001) return {"<0.001", *p};
  return Formatted("%.3f", p);
}

Value Ratio(const std::optional<Estimate>& estimate) {
  return estimate ? Times(estimate->ratio()) : Value{};
}

std::string ToString(Verdict verdict) {
  if (verdict == Verdict::kEquivalent) return "equivalent";
  return verdict == Verdict::kDiffers ? "differs" : "undecided";
}

Number Greatest(const Cells& cells, Number Fidelity::*member) {
  return Quantile(Collect(cells, OfFidelity(member)), 1);
}

Number MeanOf(const Cells& cells, Number Fidelity::*member) {
  return Mean(Collect(cells, OfFidelity(member)));
}

Value Semantic(const Cells& cells, Number Fidelity::*member) {
  Samples samples;
  std::optional<std::string> reason;
  for (const Cell* cell : cells) {
    if (!cell->fidelity) continue;
    const Number& likeness = (*cell->fidelity).*member;
    const std::string semantic = cell->fidelity->semantic.value_or("measured");
    const bool empty = cell->text.find_first_not_of(" \t\r\n\f\v") == std::string::npos;
    // Runs of schema 1 say "first token only" of cells decoded to the end, too.
    const bool decoded = semantic == "first token only" && cell->full && cell->new_tokens > 1;
    const bool unmeasured = semantic == "measured" && !likeness && member == &Fidelity::cosine;
    if (decoded || unmeasured) {
      reason = "no encoder";
    } else if (semantic != "measured") {
      reason = semantic;
    } else if (likeness == 1.0 && empty) {
      reason = "empty replies";  // both, or they would not be alike
    } else if (likeness) {
      samples.push_back(*likeness);
    }
  }
  return samples.empty() ? Text(reason) : Formatted("%.3f", Mean(samples));
}

}  // namespace kvr::report
