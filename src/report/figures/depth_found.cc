#include "../tables/depth_pair.h"
#include "figure_of.h"
#include "figures.h"

namespace kvr::report {

std::optional<Json> FoundFigure(const Scope& scope) {
  FigureData data({"prompt_id", "workload", "way", "found", "there"});
  double most = 1;
  for (const PromptCells& prompt : scope.prompts) {
    for (const Variant& variant : scope.variants) {
      if (variant.policy != "embedding") continue;
      const DepthPair depth = DepthsOf(prompt, variant);
      if (!depth.found || !depth.there) continue;
      most = std::max({most, *depth.found, *depth.there});
      data.Add({{"prompt_id", prompt.id},
                {"workload", prompt.workload},
                {"way", variant.Title()},
                {"found", *depth.found},
                {"there", *depth.there}});
    }
  }
  std::optional<Json> spec = Specification(
      {"Depth found by embedding, against the depth that was there",
       "A point for each prompt: the median depth that the embedding policy found, against the "
       "longest token prefix that the cache held. On the line everything that was there was "
       "found; below it the policy chose another entry, or its match rule allowed no more. The "
       "numbers of table depth_found, before they are averaged."},
      data, R"({
        "width": 300,
        "height": 300,
        "layer": [
          {"data": {"values": []},
           "mark": {"type": "line", "strokeDash": [3, 3], "opacity": 0.6, "color": "#7d8790"},
           "encoding": {"x": {"field": "line", "type": "quantitative"},
                        "y": {"field": "line", "type": "quantitative"}}},
          {"params": [{"name": "chosen", "bind": "legend",
                       "select": {"type": "point", "fields": ["way"]}}],
           "mark": {"type": "point", "size": 45, "color": "#0f8b8d"},
           "encoding": {
             "x": {"field": "there", "type": "quantitative", "title": "tokens that were there"},
             "y": {"field": "found", "type": "quantitative", "title": "tokens found"},
             "shape": {"field": "way", "type": "nominal", "sort": null},
             "opacity": {"condition": {"param": "chosen", "value": 0.8}, "value": 0.08},
             "tooltip": [{"field": "prompt_id"}, {"field": "workload"}, {"field": "way"},
                         {"field": "found"}, {"field": "there"}]}}
        ]
      })");
  if (spec) {
    (*spec)["layer"][0]["data"]["values"] = Json::array({{{"line", 0}}, {{"line", most}}});
  }
  return spec;
}

}  // namespace kvr::report
