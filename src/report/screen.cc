// One screen of a report.
#include <spdlog/fmt/fmt.h>

#include <algorithm>

#include "formats/layout.h"
#include "kvr/base/registry.h"
#include "kvr/report/report.h"

namespace kvr::report {
namespace {

// Adds `lines`, each wrapped, until `most` screen lines are full.
void AddLines(const std::vector<std::string>& lines, const std::string& lead, std::size_t most,
              std::string* out) {
  std::size_t used = 0;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    std::string text = Wrapped(lead + OneLine(lines[i]), kScreenWidth - 2);
    const std::size_t height = static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n'));
    const bool last = i + 1 == lines.size();
    if (used + height + (last ? 0 : 1) > most) {
      *out += "  (" + std::to_string(lines.size() - i) + " more: --all)\n";
      return;
    }
    for (std::size_t at = text.find('\n'); at + 1 < text.size(); at = text.find('\n', at + 3)) {
      text.insert(at + 1, "  ");
    }
    *out += text;
    used += height;
  }
}

}  // namespace

std::string RenderScreen(const Report& report) {
  std::string out;
  AddLines(report.alarms, "!!! ", 5, &out);
  AddLines(report.facts, "", 8, &out);
  out += '\n';
  AddLines(report.claims, "- ", 17, &out);
  if (!report.warnings.empty()) out += '\n';
  AddLines(report.warnings, "warning: ", 5, &out);
  out += '\n';
  AddLines({fmt::format(
               "more: --html FILE for a page with figures, --table NAME for one table (paper: the "
               "paper's own), --all for all of them, --format {} for everything in that form; "
               "docs/statistics.md says how numbers are made",
               AnyOf(Formats()))},
           "", 3, &out);
  return out;
}

}  // namespace kvr::report
