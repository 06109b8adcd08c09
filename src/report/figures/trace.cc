#include "../tables/tables.h"
#include "figure_of.h"
#include "figures.h"

namespace kvr::report {

std::optional<Json> TraceFigure(const Scope& scope) {
  const FigureData data = DataOf(
      TraceBinsTable, scope, {"codec", "rule", "budget_bytes", "start_s", "hit_rate", "requests"});
  return Specification(
      {"A trace: share of the prompts' tokens that are restored, over time",
       "Table trace_bins, by arithmetic over the whole trace: what is dropped when the budget is "
       "full by LRU, and by the best possible rule, which knows the future (Belady); infinite: "
       "nothing is ever dropped. A panel for each budget; the infinite cache has one of its own."},
      data, R"({
        "transform": [
          {"calculate": "datum.start_s / 60", "as": "minutes"},
          {"calculate": "isValid(datum.budget_bytes) ? format(datum.budget_bytes / 1073741824, '.4~g') + ' GiB' : 'no budget'",
           "as": "budget"}
        ],
        "width": 420,
        "height": 110,
        "mark": {"type": "line", "interpolate": "step-after", "strokeWidth": 2},
        "encoding": {
          "x": {"field": "minutes", "type": "quantitative", "title": "minutes of the trace"},
          "y": {"field": "hit_rate", "type": "quantitative", "title": "restored",
                "axis": {"format": "%"}},
          "color": {"field": "rule", "type": "nominal",
                    "scale": {"domain": ["lru", "belady", "infinite"],
                              "range": ["#0f8b8d", "#d17a22", "#7d8790"]}},
          "strokeDash": {"field": "codec", "type": "nominal"},
          "row": {"field": "budget", "type": "nominal", "title": null, "sort": null,
                  "spacing": 14, "header": {"labelOrient": "top", "labelAnchor": "start"}},
          "tooltip": [{"field": "rule"}, {"field": "budget"}, {"field": "codec"},
                      {"field": "minutes", "format": ".1f"},
                      {"field": "hit_rate", "format": ".1%"}, {"field": "requests"}]
        }
      })");
}

}  // namespace kvr::report
