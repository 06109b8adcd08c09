// How a figure is written down: its words, the numbers, and the Vega-Lite that draws them.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "../samples.h"
#include "kvr/report/report.h"

namespace kvr::report {

// The arms' names in `data.values`, to which the colours go in every figure.
inline constexpr const char* kBaselineArm = "baseline";
inline constexpr const char* kRecycledArm = "recycled";

struct FigureText {
  const char* title;
  const char* caption;  // how each number is made: of what, by which estimator
};

// Rows of a figure: objects with the same keys, in the order in which people read them.
class FigureData {
 public:
  explicit FigureData(std::vector<std::string> keys) : keys_(std::move(keys)) {}
  // Without numbers that are not known: they are absent. REQUIRES: its keys are among `keys`.
  void Add(Json row);
  [[nodiscard]] bool empty() const { return rows_.empty(); }
  [[nodiscard]] const Json& rows() const { return rows_; }
  [[nodiscard]] const std::vector<std::string>& keys() const { return keys_; }

 private:
  std::vector<std::string> keys_;
  Json rows_ = Json::array();
};

// Makes the specification: `view` is the Vega-Lite of one figure, without its data, in which
// "ARM" stands for the scale of the two arms' colours, "RATIOS" for an axis of speed-ups,
// "WORKLOADS" for a facet of a panel each. Nothing without data. Throws kInvalidInput for a `view`
// that is not JSON.
[[nodiscard]] std::optional<Json> Specification(const FigureText& text, const FigureData& data,
                                                const char* view);

// A table's rows for one scope, with these of its columns, and with "way", the way of reuse that
// the row is about, in words, where that is among `keys`. The null variant's are left out.
[[nodiscard]] FigureData DataOf(Table (*table)(const std::vector<Scope>& scopes),
                                const Scope& scope, std::vector<std::string> keys);

// Null for a number that is not known.
[[nodiscard]] Json OrNull(Number number);

// A workload's cells of one arm: the baseline, or one way of reuse.
struct ArmCells {
  const char* arm;
  std::string way;  // "baseline", or the variant's title
  Cells cells;
};
// The baseline first, then each way of reuse in the report's order, but the null variant.
[[nodiscard]] std::vector<ArmCells> ArmsOf(const Scope& scope, const Cohort& cohort);

}  // namespace kvr::report
