#include <algorithm>

#include "../formats/layout.h"
#include "formats.h"
#include "kvr/base/text_table.h"

namespace kvr::report {
namespace {

// Unlike a report's, its few columns are not cut: names tell what to look at.
std::string Aligned(const Table& table) {
  const Grid grid = GridOf(table, OneLine);
  std::vector<TextColumn> columns;
  for (std::size_t i = 0; i < grid.right.size(); ++i) {
    columns.push_back({grid.lines[0][i], grid.right[i]});
  }
  return '\n' + AlignText(columns, {grid.lines.begin() + 1, grid.lines.end()}) +
         Wrapped(table.note, kScreenWidth - 20);
}

std::string RenderText(const Comparison& comparison) {
  const Report report = InWords(comparison);
  std::string out;
  const auto add = [&](const std::vector<std::string>& lines, const char* lead) {
    for (const std::string& line : lines) out += Wrapped(lead + OneLine(line), kScreenWidth);
  };
  add(report.facts, "");
  for (const Table& table : report.tables) out += Aligned(table);
  out += '\n';
  add(report.claims, "- ");
  add(report.warnings, "note: ");
  constexpr std::size_t kMost = 20;  // of the others, the table has each
  const std::size_t shown = std::min(report.alarms.size(), kMost);
  add({report.alarms.begin(), report.alarms.begin() + static_cast<std::ptrdiff_t>(shown)}, "!!! ");
  if (shown < report.alarms.size()) {
    out += "!!! and " + std::to_string(report.alarms.size() - shown) + " more\n";
  }
  return out + (comparison.Regressed() ? "REGRESSION\n" : "no regression\n");
}

}  // namespace

const CompareFormat kCompareText = {"table", RenderText};

}  // namespace kvr::report
