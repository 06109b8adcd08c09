#include "formats.h"
#include "layout.h"

namespace kvr::report {
namespace {

std::string MarkdownText(std::string_view text) {
  std::string out;
  for (const char c : OneLine(std::string(text))) {
    if (std::string_view("\\|`*_<>[]#").find(c) != std::string_view::npos) out += '\\';
    out += c;
  }
  return out;
}

std::string MarkdownTable(const Table& table) {
  const std::string title = "## " + MarkdownText(table.title) + "\n\n";
  if (table.rows.empty()) return title + "(nothing to show)\n";
  const Grid grid = GridOf(table, MarkdownText);
  std::vector<std::string> rule;
  for (const bool right : grid.right) rule.push_back(right ? "---:" : ":---");
  std::string out = title;
  for (std::size_t i = 0; i < grid.lines.size(); ++i) {
    out += "| " + Joined(grid.lines[i], " | ") + " |\n";
    if (i == 0) out += "| " + Joined(rule, " | ") + " |\n";
  }
  return out + '\n' + MarkdownText(table.note) + '\n';
}

std::string MarkdownReport(const Report& report) {
  return RenderAll(
      report,
      [](const std::string& text, bool loud) {
        return (loud ? "- **" : "- ") + MarkdownText(text) + (loud ? "**\n" : "\n");
      },
      MarkdownTable);
}

}  // namespace

const Format kMarkdownFormat = {"markdown", MarkdownTable, MarkdownReport};

}  // namespace kvr::report
