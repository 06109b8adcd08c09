#include <algorithm>
#include <span>

#include "formats.h"
#include "kvr/base/text_table.h"
#include "layout.h"

namespace kvr::report {
namespace {

// Columns that do not fit go below, beside the first ones again, which say what a row is: from
// `next` on, those that fit, after the first `keys` ones unless they are among them.
std::vector<std::size_t> Fitting(const std::vector<std::size_t>& widths, std::size_t keys,
                                 std::size_t next) {
  std::vector<std::size_t> shown;
  std::size_t width = 0;
  for (std::size_t i = 0; i < keys && next > 0; ++i) {
    shown.push_back(i);
    width += widths[i] + 2;
  }
  for (const std::size_t first = next;
       next < widths.size() && (next == first || width + widths[next] <= kScreenWidth); ++next) {
    shown.push_back(next);
    width += widths[next] + 2;
  }
  return shown;
}

std::string TextTable(const Table& table) {
  std::string out = table.title + '\n' + std::string(TextWidth(table.title), '=') + '\n';
  if (table.rows.empty()) return out + "(nothing to show)\n";
  const std::size_t longest = kScreenWidth / 6;
  const Grid grid = GridOf(table, [&](const std::string& text) { return Cut(text, longest); });
  std::vector<std::size_t> widths(grid.right.size());
  for (const auto& line : grid.lines) {
    for (std::size_t i = 0; i < widths.size(); ++i) {
      widths[i] = std::max(widths[i], TextWidth(line[i]));
    }
  }
  const auto keys = static_cast<std::size_t>(std::find(grid.right.begin(), grid.right.end(), true) -
                                             grid.right.begin());
  for (std::size_t next = 0; next < widths.size();) {
    if (next > 0) out += '\n';
    const std::vector<std::size_t> shown = Fitting(widths, keys, next);
    std::vector<TextColumn> columns;
    columns.reserve(shown.size());
    for (const std::size_t i : shown) columns.push_back({grid.lines[0][i], grid.right[i]});
    std::vector<std::vector<std::string>> rows;
    for (const auto& line : std::span(grid.lines).subspan(1)) {
      for (auto& row = rows.emplace_back(); const std::size_t i : shown) row.push_back(line[i]);
    }
    out += AlignText(columns, rows);
    next = shown.back() + 1;
  }
  return out + Wrapped(table.note, 100);
}

std::string TextReport(const Report& report) {
  return RenderAll(
      report,
      [](const std::string& text, bool loud) {
        return (loud ? "!!! " : "") + OneLine(text) + '\n';
      },
      TextTable);
}

}  // namespace

const Format kTextFormat = {"table", TextTable, TextReport};

}  // namespace kvr::report
