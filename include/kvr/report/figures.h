// A report's figures: one Vega-Lite specification each, with its data inline. The page draws them,
// and scripts/figures.py makes files for a paper of the same ones; there is no second definition.
// docs/report.md says which there are and from which fields.
//
// Thread safety: plain values and pure functions.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "kvr/base/json.h"
#include "kvr/record/run.h"

namespace kvr::report {

struct Figure {
  std::string name;  // a word, such as "depth"; with several models "depth-2", ...
  // Vega-Lite. `title` and `description` say what is drawn, `data.values` hold every number of it,
  // and `usermeta.columns` the order of their keys. Texts of runs stand in data and titles only,
  // as one line each, without control characters.
  Json spec;
};

// Figures of each model of the runs, in the order of the registry; those without data are left out.
// Numbers are made as the tables' are. Throws nothing of its own. Cost: a few passes over the
// cells.
[[nodiscard]] std::vector<Figure> BuildFigures(std::span<const record::Run> runs);

}  // namespace kvr::report
