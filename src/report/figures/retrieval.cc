#include "../tables/tables.h"
#include "figure_of.h"
#include "figures.h"

namespace kvr::report {

std::optional<Json> RetrievalFigure(const Scope& scope) {
  const FigureData data = DataOf(RetrievalTable, scope,
                                 {"policy", "match", "k", "pieces", "entries", "recall",
                                  "recall_low", "recall_high", "embed_ms", "lookup_ms"});
  return Specification(
      {"Does the nearest embedding lead to the longest prefix?",
       "Table retrieval, all queries but the controls: the share of the depth that was there which "
       "the policy finds (bars: 95 %), and what finding it takes once the query is embedded, by "
       "the number of "
       "entries. k: entries that the embedding policy compares, the nearest first."},
      data, R"({
        "transform": [
          {"filter": "datum.pieces === 'all'"},
          {"calculate": "datum.policy + (isValid(datum.k) ? ', k ' + datum.k : '') + ', ' + datum.match",
           "as": "way"}
        ],
        "hconcat": [
          {"width": 230, "height": 220,
           "encoding": {
             "x": {"field": "entries", "type": "quantitative", "scale": {"type": "log"}},
             "color": {"field": "policy", "type": "nominal",
                       "scale": {"range": ["#0f8b8d", "#d17a22"]}, "legend": null},
             "strokeDash": {"field": "way", "type": "nominal", "sort": null},
             "tooltip": [{"field": "way"}, {"field": "entries"},
                         {"field": "recall", "format": ".3f"},
                         {"field": "recall_low", "format": ".3f"},
                         {"field": "recall_high", "format": ".3f"}]},
           "layer": [
             {"mark": {"type": "line", "point": true},
              "encoding": {"y": {"field": "recall", "type": "quantitative",
                                 "scale": {"domain": [0, 1]}, "title": "share of the depth found"}}},
             {"mark": {"type": "rule", "opacity": 0.4},
              "encoding": {"y": {"field": "recall_low", "type": "quantitative"},
                           "y2": {"field": "recall_high"},
                           "strokeDash": {"value": [1, 0]}}}]},
          {"width": 230, "height": 220,
           "mark": {"type": "line", "point": true},
           "encoding": {
             "x": {"field": "entries", "type": "quantitative", "scale": {"type": "log"}},
             "y": {"field": "lookup_ms", "type": "quantitative", "scale": {"type": "log"},
                   "title": "look-up, ms"},
             "color": {"field": "policy", "type": "nominal",
                       "scale": {"range": ["#0f8b8d", "#d17a22"]}, "legend": null},
             "strokeDash": {"field": "way", "type": "nominal", "sort": null,
                            "legend": {"symbolType": "stroke", "symbolSize": 300}},
             "tooltip": [{"field": "way"}, {"field": "entries"},
                         {"field": "lookup_ms", "format": ".3f"},
                         {"field": "embed_ms", "format": ".3f"}]}}
        ]
      })");
}

}  // namespace kvr::report
