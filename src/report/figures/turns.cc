#include <map>

#include "figure_of.h"
#include "figures.h"

namespace kvr::report {
namespace {

void AddTurns(const Cohort& cohort, const ArmCells& arm, FigureData* data) {
  std::map<std::int64_t, Cells> turns;
  for (const Cell* cell : arm.cells) {
    if (cell->turn) turns[*cell->turn].push_back(cell);
  }
  for (const auto& [turn, cells] : turns) {
    const Samples ttft = Collect(cells, &Cell::ttft_ms);
    data->Add({{"workload", cohort.label},
               {"way", arm.way},
               {"arm", arm.arm},
               {"turn", turn},
               {"cells", cells.size()},
               {"ttft_median_ms", OrNull(Median(ttft))},
               {"ttft_p95_ms", OrNull(Percentile(ttft, 0.95))},
               {"depth_median", OrNull(MedianOf(cells, Depth))}});
  }
}

}  // namespace

std::optional<Json> TurnFigure(const Scope& scope) {
  FigureData data(
      {"workload", "way", "arm", "turn", "cells", "ttft_median_ms", "ttft_p95_ms", "depth_median"});
  for (const Cohort& cohort : CohortsOf(scope)) {
    if (cohort.of_all) continue;  // rules of the window are no one rule
    for (const ArmCells& arm : ArmsOf(scope, cohort)) AddTurns(cohort, arm, &data);
  }
  return Specification({"Conversations: time to the first token by turn",
                        "Medians over the cells of a turn, for each workload (the rule by which "
                        "old turns leave the window). "
                        "Grey: the baseline."},
                       data, R"({
        "transform": [{"window": [{"op": "row_number", "as": "row"}]}],
        "width": 420,
        "height": 150,
        "params": [{"name": "chosen", "bind": "legend",
                    "select": {"type": "point", "fields": ["way"]}}],
        "mark": {"type": "line", "point": {"size": 35}},
        "encoding": {
          "x": {"field": "turn", "type": "ordinal", "title": "turn", "axis": {"labelAngle": 0}},
          "y": {"field": "ttft_median_ms", "type": "quantitative", "title": "ms"},
          "color": {"field": "arm", "type": "nominal", "scale": "ARM", "legend": null},
          "strokeDash": {"field": "way", "type": "nominal", "sort": null,
                         "legend": {"symbolType": "stroke", "symbolSize": 300}},
          "opacity": {"condition": {"param": "chosen", "value": 1}, "value": 0.15},
          "row": {"field": "workload", "type": "nominal", "title": null, "spacing": 16,
                  "sort": {"field": "row", "op": "min"},
                  "header": {"labelOrient": "top", "labelAnchor": "start"}},
          "tooltip": [{"field": "turn"}, {"field": "workload"}, {"field": "way"},
                      {"field": "ttft_median_ms", "format": ".2f"},
                      {"field": "ttft_p95_ms", "format": ".2f"},
                      {"field": "depth_median"}, {"field": "cells"}]
        }
      })");
}

}  // namespace kvr::report
