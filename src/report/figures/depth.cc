#include "../tables/tables.h"
#include "figure_of.h"
#include "figures.h"

namespace kvr::report {

std::optional<Json> DepthFigure(const Scope& scope) {
  return Specification(
      {"Speed-up against reuse depth",
       "Points: the geometric mean over prompts of the baseline's median time to the first token "
       "over the median of the prompt's recycled cells of that depth; thick lines: its 95 % "
       "interval, none for fewer than three clusters; thin lines: the least and the greatest of "
       "single cells. Depth 0 shows what a miss costs. The numbers of table depth."},
      DataOf(DepthTable, scope,
             {"depth", "way", "prompts", "cells", "ttft_speedup", "ttft_speedup_low",
              "ttft_speedup_high", "ttft_speedup_min", "ttft_speedup_max"}),
      R"({
        "width": 480,
        "height": 240,
        "transform": [{"filter": {"field": "ttft_speedup", "valid": true}}],
        "encoding": {
          "x": {"field": "depth", "type": "ordinal", "sort": null, "title": "tokens restored",
                "axis": {"labelAngle": 0}},
          "xOffset": {"field": "way", "sort": null},
          "shape": {"field": "way", "type": "nominal", "sort": null}
        },
        "layer": [
          {"data": {"values": [{}]},
           "mark": {"type": "rule", "strokeDash": [3, 3], "opacity": 0.6, "color": "#7d8790"},
           "encoding": {"x": null, "xOffset": null, "shape": null, "y": {"datum": 1}}},
          {"mark": {"type": "rule", "opacity": 0.5, "color": "#0f8b8d"},
           "encoding": {"shape": null,
                        "y": {"field": "ttft_speedup_min", "type": "quantitative"},
                        "y2": {"field": "ttft_speedup_max"}}},
          {"transform": [{"filter": {"field": "ttft_speedup_low", "valid": true}}],
           "mark": {"type": "rule", "strokeWidth": 3, "color": "#0f8b8d"},
           "encoding": {"shape": null,
                        "y": {"field": "ttft_speedup_low", "type": "quantitative"},
                        "y2": {"field": "ttft_speedup_high"}}},
          {"mark": {"type": "point", "filled": true, "size": 40, "opacity": 1, "color": "#0f8b8d"},
           "encoding": {
             "y": {"field": "ttft_speedup", "type": "quantitative", "scale": {"type": "log", "nice": false, "padding": 8},
                   "title": "baseline / recycled",
                   "axis": "RATIOS"},
             "tooltip": [{"field": "depth"}, {"field": "way"}, {"field": "prompts"},
                         {"field": "cells"},
                         {"field": "ttft_speedup", "format": ".2f"},
                         {"field": "ttft_speedup_low", "format": ".2f"},
                         {"field": "ttft_speedup_high", "format": ".2f"}]}}
        ]
})");
}

}  // namespace kvr::report
