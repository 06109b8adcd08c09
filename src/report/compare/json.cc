#include "kvr/base/json.h"

#include "formats.h"

namespace kvr::report {
namespace {

template <typename T>
Json OrNull(const std::optional<T>& value) {
  return value ? Json(*value) : Json();
}

Json ToJson(const ExactChange& change) {
  return {{"regression", change.regression},
          {"model", change.of.model},
          {"precision", change.of.precision},
          {"prompt_id", change.of.prompt},
          {"way", change.of.way},
          {"repetitions", change.repetitions},
          {"field", change.field},
          {"was", change.was},
          {"is", change.is}};
}

Json ToJson(const TimeRow& row) {
  const auto end = [&](double record::Interval::*which) {
    return row.interval ? Json((*row.interval).*which) : Json();
  };
  return {{"model", row.model},
          {"precision", row.precision},
          {"way", row.way},
          {"metric", row.metric},
          {"absolute", row.absolute},
          {"prompts", row.prompts},
          {"clusters", row.clusters},
          {"ratio", OrNull(row.ratio)},
          {"ratio_low", end(&record::Interval::low)},
          {"ratio_high", end(&record::Interval::high)},
          {"p_holm", OrNull(row.p)},
          {"detectable", OrNull(row.detectable)},
          {"verdict", ToString(row.verdict)}};
}

std::string RenderJson(const Comparison& comparison) {
  Json changes = Json::array(), times = Json::array();
  for (const ExactChange& change : comparison.changes) changes.push_back(ToJson(change));
  for (const TimeRow& row : comparison.times) times.push_back(ToJson(row));
  const Json json = {{"kvr_comparison", 1},
                     {"regressed", comparison.Regressed()},
                     {"base", comparison.base},
                     {"new", comparison.now},
                     {"threshold", comparison.options.threshold},
                     {"level", comparison.options.level},
                     {"cells", comparison.cells},
                     {"changes", std::move(changes)},
                     {"times_compared", comparison.options.times},
                     {"times", std::move(times)},
                     {"notes", comparison.notes}};
  // Control characters are escaped; beyond ASCII, all are.
  return json.dump(2, ' ', true, Json::error_handler_t::replace) + '\n';
}

}  // namespace

const CompareFormat kCompareJson = {"json", RenderJson};

}  // namespace kvr::report
