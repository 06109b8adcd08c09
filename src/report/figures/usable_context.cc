#include "../tables/tables.h"
#include "figure_of.h"
#include "figures.h"

namespace kvr::report {

std::optional<Json> UsableFigure(const Scope& scope) {
  const FigureData data = DataOf(
      UsableTable, scope, {"way", "budget_ms", "tokens", "tokens_low", "tokens_high", "bound"});
  return Specification(
      {"Usable context: the longest history whose next turn starts within a budget",
       "Table usable_context: tokens of history at which the 95th percentile of the time to the "
       "first token reaches the budget, with its interval. A triangle: even the longest history "
       "tried starts in time, or, at 0, not even the shortest. Grey: the baseline."},
      data, R"({
        "width": 420,
        "height": 260,
        "transform": [
          {"calculate": "datum.way === 'baseline' ? 'baseline' : 'recycled'", "as": "arm"},
          {"calculate": "isValid(datum.bound) ? 'bound' : 'between lengths tried'", "as": "kind"}
        ],
        "encoding": {
          "x": {"field": "budget_ms", "type": "quantitative", "scale": {"type": "log"},
                "title": "budget to the first token, ms"},
          "color": {"field": "arm", "type": "nominal", "scale": "ARM", "legend": null}
        },
        "layer": [
          {"mark": {"type": "rule", "strokeWidth": 2, "opacity": 0.45},
           "encoding": {"y": {"field": "tokens_low", "type": "quantitative",
                              "title": "tokens of history"},
                        "y2": {"field": "tokens_high"}}},
          {"mark": {"type": "line"},
           "encoding": {"y": {"field": "tokens", "type": "quantitative"},
                        "strokeDash": {"field": "way", "type": "nominal", "sort": null,
                                       "legend": {"symbolType": "stroke", "symbolSize": 300}}}},
          {"mark": {"type": "point", "filled": true, "size": 45, "opacity": 1},
           "encoding": {"y": {"field": "tokens", "type": "quantitative"},
                        "shape": {"field": "kind", "type": "nominal",
                                  "scale": {"domain": ["between lengths tried", "bound"],
                                            "range": ["circle", "triangle-up"]},
                                  "title": null},
                        "tooltip": [{"field": "way"}, {"field": "budget_ms"}, {"field": "tokens"},
                                    {"field": "tokens_low"}, {"field": "tokens_high"},
                                    {"field": "bound"}]}}
        ]
      })");
}

}  // namespace kvr::report
