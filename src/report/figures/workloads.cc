#include "../tables/tables.h"
#include "figure_of.h"
#include "figures.h"

namespace kvr::report {

std::optional<Json> WorkloadFigure(const Scope& scope) {
  return Specification(
      {"Speed-up to the first token by workload",
       "Points: the geometric mean over prompts, hits and misses alike, of the baseline's median "
       "time to the first token over the recycled median; lines: its 95 % interval, none for fewer "
       "than three clusters. Right of 1 recycling is faster. The numbers of table workloads."},
      DataOf(SpeedTable, scope,
             {"workload", "way", "prompts", "clusters", "cells", "hits", "ttft_speedup",
              "ttft_speedup_low", "ttft_speedup_high"}),
      R"({
        "transform": [{"window": [{"op": "row_number", "as": "row"}]}],
        "facet": "WORKLOADS",
        "spacing": 12,
        "spec": {
          "width": 420,
          "height": {"step": 13},
          "encoding": {
            "y": {"field": "way", "type": "nominal", "sort": null, "title": null}
          },
          "layer": [
            {"data": {"values": [{}]},
             "mark": {"type": "rule", "strokeDash": [3, 3], "opacity": 0.6, "color": "#7d8790"},
             "encoding": {"x": {"datum": 1}, "y": null}},
            {"mark": {"type": "rule", "strokeWidth": 2, "color": "#0f8b8d"},
             "encoding": {"x": {"field": "ttft_speedup_low", "type": "quantitative"},
                          "x2": {"field": "ttft_speedup_high"}}},
            {"mark": {"type": "point", "filled": true, "size": 45, "opacity": 1,
                      "color": "#0f8b8d"},
             "encoding": {
               "x": {"field": "ttft_speedup", "type": "quantitative", "scale": {"type": "log", "nice": false, "padding": 8},
                     "title": "baseline / recycled",
                     "axis": "RATIOS"},
               "tooltip": [{"field": "way"}, {"field": "workload"}, {"field": "prompts"},
                           {"field": "hits"},
                           {"field": "ttft_speedup", "format": ".2f"},
                           {"field": "ttft_speedup_low", "format": ".2f"},
                           {"field": "ttft_speedup_high", "format": ".2f"}]}}
          ]
        }
      })");
}

}  // namespace kvr::report
