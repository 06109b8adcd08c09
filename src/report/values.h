// What stands in a report's tables: numbers of cells, rounded for people and in full for programs.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "kvr/report/report.h"
#include "samples.h"

namespace kvr::report {

[[nodiscard]] std::string Print(const char* format, double number);

[[nodiscard]] Value Text(const std::optional<std::string>& text);
[[nodiscard]] Value Count(std::int64_t count);
[[nodiscard]] Value Formatted(const char* format, Number number, double factor = 1);
// Three digits that say something, as no clock here is better than that.
[[nodiscard]] Value Ms(Number ms);
[[nodiscard]] Value Times(Number ratio);
[[nodiscard]] Value Small(Number number);
[[nodiscard]] Value Percent(Number share);
[[nodiscard]] Value SignedPercent(Number share);
// "39 of 40", because 39999 of 40000 would be rounded to 100 %. Raw: the share.
[[nodiscard]] Value Rate(std::int64_t count, std::int64_t of);
// A p-value. Small ones are for programs.
[[nodiscard]] Value PValueOf(Number p);
[[nodiscard]] Value Ratio(const std::optional<Estimate>& estimate);
[[nodiscard]] std::string ToString(Verdict verdict);
template <typename Predicate>
[[nodiscard]] Value RateOf(const Cells& cells, Predicate predicate) {
  return Rate(CountIf(cells, predicate), std::ssize(cells));
}

// Of a number of the fidelity of those cells that have it.
[[nodiscard]] Number Greatest(const Cells& cells, Number Fidelity::*member);
[[nodiscard]] Number MeanOf(const Cells& cells, Number Fidelity::*member);
// The mean of `member`, a likeness of texts, over the cells where texts mean something; where none
// does, the reason.
[[nodiscard]] Value Semantic(const Cells& cells, Number Fidelity::*member);

}  // namespace kvr::report
