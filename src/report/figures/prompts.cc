#include "../tables/tables.h"
#include "figure_of.h"
#include "figures.h"

namespace kvr::report {

std::optional<Json> PromptFigure(const Scope& scope) {
  return Specification(
      {"Each prompt's speed-up against its reuse depth",
       "A point for each prompt and way of reuse: the baseline's median time to the first token "
       "over the recycled median, at the median depth. The numbers of table prompts."},
      DataOf(PromptTable, scope,
             {"prompt_id", "workload", "way", "prompt_tokens", "reuse_depth", "baseline_ttft_ms",
              "recycled_ttft_ms", "ttft_speedup"}),
      R"({
        "width": 480,
        "height": 240,
        "transform": [{"filter": "datum.ttft_speedup > 0"}],
        "layer": [
          {"data": {"values": [{}]},
           "mark": {"type": "rule", "strokeDash": [3, 3], "opacity": 0.6, "color": "#7d8790"},
           "encoding": {"y": {"datum": 1}}},
          {"params": [{"name": "chosen", "bind": "legend",
                       "select": {"type": "point", "fields": ["way"]}}],
           "mark": {"type": "point", "size": 40, "color": "#0f8b8d"},
           "encoding": {
             "x": {"field": "reuse_depth", "type": "quantitative", "title": "tokens restored"},
             "y": {"field": "ttft_speedup", "type": "quantitative", "scale": {"type": "log", "nice": false, "padding": 8},
                   "title": "baseline / recycled",
                   "axis": "RATIOS"},
             "shape": {"field": "way", "type": "nominal", "sort": null},
             "opacity": {"condition": {"param": "chosen", "value": 0.8}, "value": 0.08},
             "tooltip": [{"field": "prompt_id"}, {"field": "workload"}, {"field": "way"},
                         {"field": "reuse_depth"}, {"field": "prompt_tokens"},
                         {"field": "baseline_ttft_ms", "format": ".2f"},
                         {"field": "recycled_ttft_ms", "format": ".2f"},
                         {"field": "ttft_speedup", "format": ".2f"}]}}
        ]
      })");
}

}  // namespace kvr::report
