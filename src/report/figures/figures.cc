#include "figures.h"

#include "../formats/layout.h"

namespace kvr::report {

std::vector<Figure> BuildFigures(std::span<const Run> runs) {
  return BuildFigures(ScopesOf(runs), kFigures);
}

std::vector<Figure> BuildFigures(const std::vector<Scope>& scopes,
                                 std::span<const FigureKind> figures) {
  std::vector<Figure> all;
  for (const FigureKind& kind : figures) {
    for (std::size_t i = 0; i < scopes.size(); ++i) {
      std::optional<Json> spec = kind.make(scopes[i]);
      if (!spec) continue;
      if (scopes.size() > 1) {
        (*spec)["title"] = {{"text", (*spec)["title"]}, {"subtitle", OneLine(scopes[i].Title())}};
      }
      all.push_back({i == 0 ? kind.name : std::string(kind.name) + "-" + std::to_string(i + 1),
                     std::move(*spec)});
    }
  }
  return all;
}

}  // namespace kvr::report
