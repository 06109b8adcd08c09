// The report as one HTML file for people.
//
// Thread safety: pure functions.
#pragma once

#include <span>
#include <string>

#include "kvr/record/run.h"

namespace kvr::report {

// A page that needs nothing but itself: it loads nothing, runs no script but its own (which its
// content policy names by hash), follows the reader's light or dark theme, prints, and without
// JavaScript still holds every number and text. No text of a run is markup in it. Holds the first
// screen, the figures with their numbers, all tables, each prompt's outputs by either arm, and the
// environment. Throws nothing of its own: what a run lacks, its page lacks. Cost: that of
// BuildReport and BuildFigures; some 900 KB more than the run's data.
[[nodiscard]] std::string RenderHtml(std::span<const record::Run> runs);

}  // namespace kvr::report
