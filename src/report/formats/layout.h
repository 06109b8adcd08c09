// What the formats share: text made safe for a line, and the part of a table that people see.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "kvr/report/report.h"

namespace kvr::report {

inline constexpr std::size_t kScreenWidth = 120;

// No line break, other control character, change of the writing's direction, non-character or
// ill-formed byte leaves its table cell: spaces and U+FFFD take their places.
[[nodiscard]] std::string OneLine(const std::string& raw);

// For an attribute or a text of XML or HTML.
[[nodiscard]] std::string Escaped(const std::string& text);

// OneLine's text, "…" in the place of what is beyond `width` characters.
[[nodiscard]] std::string Cut(const std::string& text, std::size_t width);

// Lines of `width` columns or less, broken between words.
[[nodiscard]] std::string Wrapped(std::string_view text, std::size_t width);

[[nodiscard]] std::string Joined(const std::vector<std::string>& parts, const char* separator);

// What people are shown of a table: heads and rows as escaped text, without constant columns.
struct Grid {
  std::vector<bool> right;
  std::vector<std::vector<std::string>> lines;  // the first one holds the heads
};

template <typename Escape>
Grid GridOf(const Table& table, Escape escape) {
  Grid grid;
  grid.lines.resize(table.rows.size() + 1);
  for (std::size_t column = 0; column < table.columns.size(); ++column) {
    if (table.columns[column].constant) continue;
    grid.right.push_back(table.columns[column].right);
    grid.lines[0].push_back(escape(table.columns[column].head));
    for (std::size_t row = 0; row < table.rows.size(); ++row) {
      grid.lines[row + 1].push_back(escape(table.rows[row][column].text));
    }
  }
  return grid;
}

// The lines on top by `line`(text, loud), then an empty line and `table`(table) for each table.
template <typename Line, typename OneTable>
std::string RenderAll(const Report& report, Line line, OneTable table) {
  std::string out;
  for (const std::string& alarm : report.alarms) out += line(alarm, true);
  for (const std::string& fact : report.facts) out += line(fact, false);
  for (const std::string& claim : report.claims) out += line(claim, false);
  for (const std::string& warning : report.warnings) out += line("warning: " + warning, false);
  for (const Table& one : report.tables) out += '\n' + table(one);
  return out;
}

}  // namespace kvr::report
