#include "figure_of.h"

#include <algorithm>
#include <map>
#include <utility>

#include "../formats/layout.h"

namespace kvr::report {
namespace {

// Grey and teal keep apart for every kind of colour blindness, and from white and from black.
// Words and lines take the colour of the page's text; where there is no page, that is black.
constexpr const char* kShared = R"({
  "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
  "config": {
    "font": "sans-serif",
    "view": {"stroke": null},
    "title": {"anchor": "start", "color": "currentColor", "fontSize": 13, "fontWeight": 600},
    "axis": {"labelColor": "currentColor", "titleColor": "currentColor",
             "domainColor": "currentColor", "tickColor": "currentColor",
             "gridColor": "currentColor", "gridOpacity": 0.12, "domainOpacity": 0.4,
             "tickOpacity": 0.4, "labelFontSize": 11, "titleFontSize": 11,
             "titleFontWeight": "normal", "labelLimit": 190},
    "header": {"labelColor": "currentColor", "titleColor": "currentColor", "labelFontSize": 11,
               "labelFontWeight": 600, "labelLimit": 300},
    "legend": {"orient": "top", "direction": "horizontal", "columns": 2, "title": null,
               "labelColor": "currentColor", "titleColor": "currentColor", "labelFontSize": 11,
               "labelLimit": 240, "symbolStrokeColor": "#6f7a83"}
  }
})";

constexpr const char* kArmScale = R"({"domain": ["baseline", "recycled"],
                                      "range": ["#7d8790", "#0f8b8d"]})";

// Of ratios on a logarithmic scale.
constexpr const char* kRatioAxis = R"({
  "values": [0.03125, 0.0625, 0.125, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024],
  "format": "~g", "labelOverlap": "greedy", "labelSeparation": 6})";

// A panel for each workload, in the order of `row`, which the view numbers.
constexpr const char* kWorkloads = R"({
  "row": {"field": "workload", "type": "nominal", "title": null,
          "sort": {"field": "row", "op": "min"},
          "header": {"labelAnchor": "start", "labelOrient": "top"}}})";

// Texts of runs go into files of other formats: into no SVG may a control character.
void MakeSafe(Json* json) {
  if (json->is_string()) *json = OneLine(json->get<std::string>());
  if (json->is_structured()) {
    for (Json& member : *json) MakeSafe(&member);
  }
}

// Puts what all figures have alike in the place of its name.
void Expand(Json* json) {
  static const std::map<std::string, Json> shared = {{"ARM", Json::parse(kArmScale)},
                                                     {"RATIOS", Json::parse(kRatioAxis)},
                                                     {"WORKLOADS", Json::parse(kWorkloads)}};
  if (json->is_string()) {
    const auto found = shared.find(json->get<std::string>());
    if (found != shared.end()) *json = found->second;
  } else if (json->is_structured()) {
    for (Json& member : *json) Expand(&member);
  }
}

// The title of the variant that a table's row is about, as far as the row tells.
std::string WayOf(const Json& row) {
  const auto said = [&](const char* key, const char* otherwise) {
    const Json value = row.value(key, Json());
    return value.is_string() && value != "" ? value.get<std::string>() : std::string(otherwise);
  };
  Variant variant;
  variant.policy = said("policy", "embedding");
  if (const std::string match = said("match", ""); !match.empty()) variant.match = match;
  variant.codec = said("codec", "fp32");
  const Json candidates = row.value("candidates", Json());
  if (!candidates.is_null()) variant.candidates = candidates.get<std::int64_t>();
  variant.page_cache = said("asked_page_cache", "warm");
  return variant.Title();
}

}  // namespace

void FigureData::Add(Json row) {
  for (auto value = row.begin(); value != row.end();) {
    value = value->is_null() ? row.erase(value) : std::next(value);
  }
  rows_.push_back(std::move(row));
}

std::optional<Json> Specification(const FigureText& text, const FigureData& data,
                                  const char* view) {
  if (data.empty()) return std::nullopt;
  Json spec = ParseJson(kShared, "what all figures share");
  spec.update(ParseJson(view, text.title));
  Expand(&spec);
  spec["title"] = text.title;
  spec["description"] = text.caption;
  spec["data"] = {{"values", data.rows()}};
  spec["usermeta"] = {{"columns", data.keys()}};
  MakeSafe(&spec["data"]);
  return spec;
}

FigureData DataOf(Table (*table)(const std::vector<Scope>& scopes), const Scope& scope,
                  std::vector<std::string> keys) {
  const Table made = table({scope});
  FigureData data(std::move(keys));
  for (const std::vector<Value>& row : made.rows) {
    Json all = Json::object();
    for (std::size_t i = 0; i < row.size(); ++i) all[made.columns[i].key] = row[i].raw;
    if (all.value("policy", "") == NullVariant().policy) continue;
    all["way"] = WayOf(all);
    Json wanted = Json::object();
    for (const std::string& key : data.keys()) wanted[key] = all.at(key);
    data.Add(std::move(wanted));
  }
  return data;
}

Json OrNull(Number number) { return number ? Json(*number) : Json(); }

std::vector<ArmCells> ArmsOf(const Scope& scope, const Cohort& cohort) {
  std::vector<ArmCells> arms = {{kBaselineArm, kBaselineArm, {}}};
  for (const PromptCells* prompt : cohort.prompts) {
    arms[0].cells.insert(arms[0].cells.end(), prompt->baseline.begin(), prompt->baseline.end());
  }
  for (const Variant& variant : scope.variants) {
    arms.push_back({kRecycledArm, variant.Title(), AllRecycledBy(cohort.prompts, variant)});
  }
  std::erase_if(arms, [](const ArmCells& arm) { return arm.cells.empty(); });
  return arms;
}

}  // namespace kvr::report
