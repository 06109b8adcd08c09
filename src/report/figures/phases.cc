#include <array>

#include "figure_of.h"
#include "figures.h"

namespace kvr::report {
namespace {

struct DrawnPhase {
  const char* name;
  Number Cell::*member;
};
constexpr std::array<DrawnPhase, 3> kFinding = {
    {{"embed", &Cell::embed_ms}, {"lookup", &Cell::lookup_ms}, {"restore", &Cell::restore_ms}}};

void AddPhases(const Cohort& cohort, const ArmCells& arm, FigureData* data) {
  int place = 0;
  const auto add = [&](const std::string& phase, Number ms) {
    if (!ms) return;
    data->Add({{"workload", cohort.label},
               {"way", arm.way},
               {"cells", arm.cells.size()},
               {"phase", phase},
               {"place", place++},
               {"median_ms", *ms},
               {"ttft_median_ms", OrNull(MedianOf(arm.cells, &Cell::ttft_ms))}});
  };
  for (const DrawnPhase& phase : kFinding) add(phase.name, MedianOf(arm.cells, phase.member));
  add(std::string(arm.arm) + " prefill", MedianOf(arm.cells, &Cell::prefill_ms));
}

}  // namespace

std::optional<Json> PhaseFigure(const Scope& scope) {
  FigureData data({"workload", "way", "cells", "phase", "median_ms", "ttft_median_ms", "place"});
  for (const Cohort& cohort : CohortsOf(scope)) {
    for (const ArmCells& arm : ArmsOf(scope, cohort)) AddPhases(cohort, arm, &data);
  }
  return Specification(
      {"Time to the first token by phase",
       "Bars: medians over cells of each phase, one after the other; ticks: the median of the "
       "whole time to the first token, which the medians of its parts need not add up to. The "
       "numbers of table phases."},
      data, R"({
        "transform": [{"window": [{"op": "row_number", "as": "row"}]}],
        "facet": "WORKLOADS",
        "spacing": 12,
        "spec": {
          "width": 420,
          "height": {"step": 15},
          "encoding": {
            "y": {"field": "way", "type": "nominal", "sort": null, "title": null}
          },
          "layer": [
            {"mark": "bar",
             "encoding": {
               "x": {"field": "median_ms", "type": "quantitative", "stack": "zero", "title": "ms"},
               "color": {"field": "phase", "type": "nominal",
                         "scale": {"domain": ["baseline prefill", "recycled prefill", "restore",
                                              "lookup", "embed"],
                                   "range": ["#7d8790", "#0f8b8d", "#6cc5c1", "#8c6bb1",
                                             "#d98b2b"]}},
               "order": {"field": "place"},
               "tooltip": [{"field": "way"}, {"field": "workload"}, {"field": "phase"},
                           {"field": "median_ms", "format": ".2f"}, {"field": "cells"}]}},
            {"transform": [{"filter": {"field": "phase",
                                       "oneOf": ["baseline prefill", "recycled prefill"]}}],
             "mark": {"type": "tick", "thickness": 2, "color": "currentColor"},
             "encoding": {
               "x": {"field": "ttft_median_ms", "type": "quantitative"},
               "tooltip": [{"field": "way"}, {"field": "workload"},
                           {"field": "ttft_median_ms", "format": ".2f"}]}}
          ]
        }
      })");
}

}  // namespace kvr::report
