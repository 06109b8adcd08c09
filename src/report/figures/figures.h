// The report's figures: one file and one line here for each, in the order in which they are shown.
#pragma once

#include <array>
#include <optional>
#include <span>
#include <vector>

#include "../samples.h"
#include "kvr/report/figures.h"

namespace kvr::report {

// clang-format off
#define KVR_REPORT_FIGURES(FIGURE) \
  FIGURE(workloads, WorkloadFigure) \
  FIGURE(depth, DepthFigure) \
  FIGURE(prompts, PromptFigure) \
  FIGURE(phases, PhaseFigure) \
  FIGURE(distribution, DistributionFigure) \
  FIGURE(depth_found, FoundFigure) \
  FIGURE(turns, TurnFigure) \
  FIGURE(usable_context, UsableFigure) \
  FIGURE(trace, TraceFigure) \
  FIGURE(retrieval, RetrievalFigure)
// clang-format on

// What a figure is called, and how its specification is made for one model of one run; nothing
// where there is nothing to draw. The function makes it by Specification (figure_of.h).
struct FigureKind {
  const char* name;
  std::optional<Json> (*make)(const Scope& scope);
};

#define KVR_DECLARE_FIGURE(name, function) std::optional<Json> function(const Scope& scope);
KVR_REPORT_FIGURES(KVR_DECLARE_FIGURE)
#undef KVR_DECLARE_FIGURE

#define KVR_LIST_FIGURE(name, function) FigureKind{#name, function},
inline constexpr auto kFigures = std::to_array<FigureKind>({KVR_REPORT_FIGURES(KVR_LIST_FIGURE)});
#undef KVR_LIST_FIGURE

// Of these figures.
[[nodiscard]] std::vector<Figure> BuildFigures(const std::vector<Scope>& scopes,
                                               std::span<const FigureKind> figures);

}  // namespace kvr::report
