#include "figure_of.h"
#include "figures.h"

namespace kvr::report {

std::optional<Json> DistributionFigure(const Scope& scope) {
  FigureData data({"workload", "way", "arm", "cells", "least_ms", "quartile_1_ms", "median_ms",
                   "quartile_3_ms", "p95_ms", "greatest_ms"});
  for (const Cohort& cohort : CohortsOf(scope)) {
    for (const ArmCells& arm : ArmsOf(scope, cohort)) {
      const Samples ttft = Collect(arm.cells, &Cell::ttft_ms);
      data.Add({{"workload", cohort.label},
                {"way", arm.way},
                {"arm", arm.arm},
                {"cells", ttft.size()},
                {"least_ms", OrNull(Quantile(ttft, 0))},
                {"quartile_1_ms", OrNull(Quantile(ttft, 0.25))},
                {"median_ms", OrNull(Median(ttft))},
                {"quartile_3_ms", OrNull(Quantile(ttft, 0.75))},
                {"p95_ms", OrNull(Percentile(ttft, 0.95))},
                {"greatest_ms", OrNull(Quantile(ttft, 1))}});
    }
  }
  return Specification(
      {"Distribution of the time to the first token",
       "Over all cells of an arm. Boxes: from the first quartile to the third; white ticks: the "
       "median; lines: from the least to the greatest; points: the 95th percentile. Median and "
       "95th percentile are those of table phases, the quartiles by the same rule."},
      data, R"({
        "transform": [{"window": [{"op": "row_number", "as": "row"}]}],
        "facet": "WORKLOADS",
        "spacing": 12,
        "spec": {
          "width": 420,
          "height": {"step": 15},
          "encoding": {
            "y": {"field": "way", "type": "nominal", "sort": null, "title": null},
            "color": {"field": "arm", "type": "nominal", "scale": "ARM"},
            "tooltip": [{"field": "way"}, {"field": "workload"}, {"field": "cells"},
                        {"field": "least_ms", "format": ".2f"},
                        {"field": "quartile_1_ms", "format": ".2f"},
                        {"field": "median_ms", "format": ".2f"},
                        {"field": "quartile_3_ms", "format": ".2f"},
                        {"field": "p95_ms", "format": ".2f"},
                        {"field": "greatest_ms", "format": ".2f"}]
          },
          "layer": [
            {"mark": "rule",
             "encoding": {"x": {"field": "least_ms", "type": "quantitative", "title": "ms"},
                          "x2": {"field": "greatest_ms"}}},
            {"mark": {"type": "bar", "height": 9},
             "encoding": {"x": {"field": "quartile_1_ms", "type": "quantitative"},
                          "x2": {"field": "quartile_3_ms"}}},
            {"mark": {"type": "point", "filled": true, "size": 25, "opacity": 1},
             "encoding": {"x": {"field": "p95_ms", "type": "quantitative"}}},
            {"mark": {"type": "tick", "thickness": 2, "height": 9},
             "encoding": {"x": {"field": "median_ms", "type": "quantitative"},
                          "color": {"value": "#ffffff"}}}
          ]
        }
      })");
}

}  // namespace kvr::report
