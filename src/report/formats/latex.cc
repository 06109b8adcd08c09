#include <map>

#include "formats.h"
#include "layout.h"

namespace kvr::report {
namespace {

std::string LatexText(std::string_view text) {
  static const std::map<char, std::string_view> named = {
      {'\\', "textbackslash"}, {'~', "textasciitilde"}, {'^', "textasciicircum"},
      {'<', "textless"},       {'>', "textgreater"},    {'|', "textbar"}};
  std::string out;
  for (const char c : OneLine(std::string(text))) {
    const auto name = named.find(c);
    if (name != named.end()) {
      out.append("\\").append(name->second).append("{}");
      continue;
    }
    if (std::string_view("&%$#_{}").find(c) != std::string_view::npos) out += '\\';
    out += c;
  }
  return out;
}

std::string LatexTable(const Table& table) {
  const std::string title = "\\paragraph{" + LatexText(table.title) + "}\n";
  if (table.rows.empty()) return title + "Nothing to show.\n";
  const Grid grid = GridOf(table, LatexText);
  std::string out = title + "{\\scriptsize\\setlength{\\tabcolsep}{3pt}\n\\begin{longtable}{";
  for (const bool right : grid.right) out += right ? 'r' : 'l';
  out += "}\n\\toprule\n";
  for (std::size_t i = 0; i < grid.lines.size(); ++i) {
    // Without the braces, a line that began with "[" would be the option of the "\\" before it.
    out += "{}" + Joined(grid.lines[i], " & ") + " \\\\\n";
    if (i == 0) out += "\\midrule\n\\endhead\n\\bottomrule\n\\endfoot\n";
  }
  return out + "\\end{longtable}}\n{\\footnotesize " + LatexText(table.note) + "\\par}\n";
}

std::string LatexReport(const Report& report) {
  return RenderAll(
      report,
      [](const std::string& text, bool loud) {
        return (loud ? "\\noindent\\textbf{" : "\\noindent{") + LatexText(text) + "}\\par\n";
      },
      LatexTable);
}

}  // namespace

const Format kLatexFormat = {"latex", LatexTable, LatexReport};

}  // namespace kvr::report
