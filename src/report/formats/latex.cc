#include <spdlog/fmt/fmt.h>

#include <map>

#include "formats.h"
#include "layout.h"

namespace kvr::report {
namespace {

// A character that pdfLaTeX may not know, which ends its run with an error: it shows the number,
// XeLaTeX and LuaLaTeX the character.
constexpr const char* kAnyCharacter =
    "\\providecommand{\\kvrchar}[2]{\\ifdefined\\Umathchar#2\\else[U+#1]\\fi}\n";

// The first character of `text`. REQUIRES: UTF-8, not empty.
std::string_view FirstCharacter(std::string_view text) {
  std::size_t bytes = 1;
  while (bytes < text.size() && (static_cast<unsigned char>(text[bytes]) & 0xC0) == 0x80) ++bytes;
  return text.substr(0, bytes);
}

std::uint32_t CodePoint(std::string_view character) {
  const auto first = static_cast<unsigned char>(character[0]);
  if (character.size() == 1) return first;
  std::uint32_t code = first & (0xFFu >> (character.size() + 1));
  for (const char c : character.substr(1))
    code = code << 6 | (static_cast<unsigned char>(c) & 0x3F);
  return code;
}

// Latin letters of Western Europe that LaTeX's default encoding has; Eth and Thorn it has not.
bool IsKnownLetter(std::uint32_t code) {
  return code >= 0xC0 && code <= 0xFF && (code & 0xDF) != 0xD0 && (code & 0xDF) != 0xDE;
}

std::string LatexText(std::string_view text) {
  static const std::map<char, std::string_view> named = {
      {'\\', "textbackslash"}, {'~', "textasciitilde"}, {'^', "textasciicircum"},
      {'<', "textless"},       {'>', "textgreater"},    {'|', "textbar"}};
  const std::string line = OneLine(std::string(text));
  std::string out;
  for (std::string_view rest = line; !rest.empty();) {
    const std::string_view character = FirstCharacter(rest);
    rest.remove_prefix(character.size());
    const std::uint32_t code = CodePoint(character);
    const auto name = named.find(character[0]);
    if (name != named.end()) {
      out.append("\\").append(name->second).append("{}");
    } else if (character == "…") {
      out += "\\ldots{}";
    } else if (code > 0x7F && !IsKnownLetter(code)) {
      out += fmt::format("\\kvrchar{{{:04X}}}{{{}}}", code, character);
    } else {
      if (std::string_view("&%$#_{}").find(character[0]) != std::string_view::npos) out += '\\';
      out += character;
    }
  }
  return out;
}

std::string LatexTable(const Table& table) {
  const std::string title = "\\paragraph{" + LatexText(table.title) + "}\n";
  if (table.rows.empty()) return title + "Nothing to show.\n";
  const Grid grid = GridOf(table, [](const std::string& text) { return LatexText(Cut(text, 30)); });
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
  return kAnyCharacter + RenderAll(
                             report,
                             [](const std::string& text, bool loud) {
                               return (loud ? "\\noindent\\textbf{" : "\\noindent{") +
                                      LatexText(text) + "}\\par\n";
                             },
                             LatexTable);
}

std::string OneLatexTable(const Table& table) { return kAnyCharacter + LatexTable(table); }

}  // namespace

const Format kLatexFormat = {"latex", OneLatexTable, LatexReport};

}  // namespace kvr::report
