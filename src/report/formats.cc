#include <algorithm>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kvr/base/error.h"
#include "kvr/report/report.h"
#include "kvr/base/utf8.h"

namespace kvr::report {
namespace {

constexpr std::size_t kScreenWidth = 120;

// Characters, at the price of taking each code point as one column wide.
std::size_t Width(std::string_view text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

// No line break, other control character, change of the writing's direction or ill-formed byte
// leaves its table cell.
std::string OneLine(const std::string& raw) {
  const std::string text = SanitizeUtf8(raw).text;
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const std::string_view rest = std::string_view(text).substr(i);
    const auto byte = [&](std::size_t n) {
      return n < rest.size() ? static_cast<unsigned char>(rest[n]) : 0u;
    };
    if (byte(0) < 0x20 || byte(0) == 0x7F) {
      out += ' ';
    } else if (byte(0) == 0xC2 && byte(1) < 0xA0) {
      out += ' ';
      i += 1;
    } else if (byte(0) == 0xE2 && ((byte(1) == 0x80 && byte(2) >= 0xA8 && byte(2) <= 0xAE) ||
                                   (byte(1) == 0x81 && byte(2) >= 0xA6 && byte(2) <= 0xA9))) {
      out += ' ';
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

// For CSV: line breaks may stay in their quotes, other control characters not.
std::string WithoutControls(const std::string& text) {
  std::string out;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find_first_of("\r\n\t", begin), text.size());
    out += OneLine(text.substr(begin, end - begin));
    if (end < text.size()) out += text[end];
    begin = end + 1;
  }
  return out;
}

std::string MarkdownText(std::string_view text) {
  std::string out;
  for (const char c : OneLine(std::string(text))) {
    if (std::string_view("\\|`*_<>[]#").find(c) != std::string_view::npos) out += '\\';
    out += c;
  }
  return out;
}

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

std::string CsvText(const std::string& raw) {
  std::string text = WithoutControls(raw);
  if (text.find_first_of("\",\r\n") == std::string::npos && !text.starts_with('#')) return text;
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"') out += '"';
    out += c;
  }
  return out + '"';
}

std::string CsvValue(const Json& raw) {
  if (raw.is_null()) return "";
  return CsvText(raw.is_string() ? raw.get<std::string>() : DumpLine(raw));
}

std::string Wrapped(std::string_view text, std::size_t width) {
  std::string out;
  std::size_t column = 0;
  while (!text.empty()) {
    const std::size_t space = std::min(text.find(' '), text.size());
    const std::string_view word = text.substr(0, space);
    text.remove_prefix(std::min(space + 1, text.size()));
    if (column > 0 && column + 1 + Width(word) > width) {
      out += '\n';
      column = 0;
    } else if (column > 0) {
      out += ' ';
      ++column;
    }
    out += word;
    column += Width(word);
  }
  return out + '\n';
}

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

std::string Joined(const std::vector<std::string>& parts, const char* separator) {
  std::string out;
  for (std::size_t i = 0; i < parts.size(); ++i)
    out.append(i == 0 ? "" : separator).append(parts[i]);
  return out;
}

std::string Shortened(const std::string& text, std::size_t width) {
  std::string out = OneLine(text);
  if (Width(out) <= width) return out;
  std::size_t bytes = 0;
  for (std::size_t seen = 0; bytes < out.size(); ++bytes) {
    if ((out[bytes] & 0xC0) != 0x80 && ++seen == width) break;
  }
  return out.substr(0, bytes) + "…";
}

std::string TextTable(const Table& table) {
  std::string out = table.title + '\n' + std::string(Width(table.title), '=') + '\n';
  if (table.rows.empty()) return out + "(nothing to show)\n";
  const std::size_t longest = kScreenWidth / 6;
  Grid grid = GridOf(table, [&](const std::string& text) { return Shortened(text, longest); });
  for (std::size_t column = 0; column < grid.right.size(); ++column) {
    std::size_t width = 0;
    for (const auto& line : grid.lines) width = std::max(width, Width(line[column]));
    for (auto& line : grid.lines) {
      const std::string gap(width - Width(line[column]), ' ');
      line[column] = grid.right[column] ? gap + line[column] : line[column] + gap;
    }
  }
  // Columns that do not fit go below, beside the first ones again, which say what a row is.
  std::size_t keys = 0;
  while (keys < grid.right.size() && !grid.right[keys]) ++keys;
  for (std::size_t next = 0; next < grid.right.size();) {
    std::vector<std::size_t> shown;
    std::size_t width = 0;
    for (std::size_t i = 0; i < keys && next > 0; ++i) shown.push_back(i);
    for (const std::size_t i : shown) width += Width(grid.lines[0][i]) + 2;
    const std::size_t first = next;
    while (next < grid.right.size() &&
           (next == first || width + Width(grid.lines[0][next]) <= kScreenWidth)) {
      width += Width(grid.lines[0][next]) + 2;
      shown.push_back(next++);
    }
    if (first > 0) out += '\n';
    for (const auto& line : grid.lines) {
      std::string joined;
      for (const std::size_t i : shown) joined += line[i] + "  ";
      out += joined.substr(0, joined.find_last_not_of(' ') + 1) + '\n';
    }
  }
  return out + Wrapped(table.note, 100);
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

std::string CsvTable(const Table& table) {
  std::vector<std::string> line;
  for (const Column& column : table.columns) line.push_back(CsvText(column.key));
  std::string out = Joined(line, ",") + '\n';
  for (const auto& row : table.rows) {
    line.clear();
    for (const Value& value : row) line.push_back(CsvValue(value.raw));
    out += Joined(line, ",") + '\n';
  }
  return out;
}

Json JsonTable(const Table& table) {
  Json columns = Json::array(), rows = Json::array();
  for (const Column& column : table.columns) {
    columns.push_back({{"key", column.key}, {"head", column.head}});
  }
  for (const auto& row : table.rows) {
    Json object = Json::object();
    for (std::size_t i = 0; i < row.size(); ++i) object[table.columns[i].key] = row[i].raw;
    rows.push_back(std::move(object));
  }
  return {{"name", table.name},
          {"title", table.title},
          {"note", table.note},
          {"columns", std::move(columns)},
          {"rows", std::move(rows)}};
}

// Characters that only some escape: DEL, and the control characters beyond ASCII.
std::string Pretty(const Json& json) {
  const std::string text = json.dump(2, ' ', false, Json::error_handler_t::replace);
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const unsigned char next = i + 1 < text.size() ? static_cast<unsigned char>(text[i + 1]) : 0xFF;
    if (text[i] == '\x7F') {
      out += "\\u007f";
    } else if (text[i] == '\xC2' && next < 0xA0) {
      out += next < 0x90 ? "\\u008" : "\\u009";
      out += "0123456789abcdef"[next & 0xF];
      ++i;
    } else {
      out += text[i];
    }
  }
  return out + '\n';
}

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

Format FormatFromString(std::string_view text) {
  if (text == "table") return Format::kTable;
  if (text == "markdown") return Format::kMarkdown;
  if (text == "csv") return Format::kCsv;
  if (text == "latex") return Format::kLatex;
  if (text == "json") return Format::kJson;
  throw InvalidInput("report format \"" + std::string(text) +
                     "\", expected one of table, markdown, csv, latex, json");
}

std::string Render(const Table& table, Format format) {
  switch (format) {
    case Format::kTable:
      return TextTable(table);
    case Format::kMarkdown:
      return MarkdownTable(table);
    case Format::kCsv:
      return CsvTable(table);
    case Format::kLatex:
      return LatexTable(table);
    case Format::kJson:
      return Pretty(JsonTable(table));
  }
  throw std::logic_error("unknown report format");
}

std::string Render(const Report& report, Format format) {
  if (format == Format::kJson) {
    Json tables = Json::array();
    for (const Table& table : report.tables) tables.push_back(JsonTable(table));
    return Pretty({{"schema", record::kResultsSchema},
                   {"alarms", report.alarms},
                   {"facts", report.facts},
                   {"claims", report.claims},
                   {"warnings", report.warnings},
                   {"tables", std::move(tables)}});
  }
  std::string out;
  const auto line = [&](const std::string& text, bool loud) {
    switch (format) {
      case Format::kMarkdown:
        out += (loud ? "- **" : "- ") + MarkdownText(text) + (loud ? "**\n" : "\n");
        break;
      case Format::kLatex:
        out += (loud ? "\\noindent\\textbf{" : "\\noindent{") + LatexText(text) + "}\\par\n";
        break;
      case Format::kCsv:
        out += "# " + OneLine(text) + '\n';
        break;
      default:
        out += (loud ? "!!! " : "") + OneLine(text) + '\n';
    }
  };
  for (const std::string& alarm : report.alarms) line(alarm, true);
  for (const std::string& fact : report.facts) line(fact, false);
  for (const std::string& claim : report.claims) line(claim, false);
  for (const std::string& warning : report.warnings) line("warning: " + warning, false);
  for (const Table& table : report.tables) {
    out += '\n';
    if (format == Format::kCsv) out += "# " + table.name + ": " + table.title + '\n';
    out += Render(table, format);
  }
  return out;
}

std::string RenderScreen(const Report& report) {
  std::string out;
  AddLines(report.alarms, "!!! ", 5, &out);
  AddLines(report.facts, "", 8, &out);
  out += '\n';
  AddLines(report.claims, "- ", 17, &out);
  if (!report.warnings.empty()) out += '\n';
  AddLines(report.warnings, "warning: ", 5, &out);
  out +=
      "\nmore: --table NAME for one table (paper: the paper's own), --all for all of them, "
      "--format "
      "markdown,\n  csv, latex or json; docs/statistics.md says how numbers and intervals are "
      "made\n";
  return out;
}

const Table& FindTable(const Report& report, std::string_view name) {
  std::string names;
  for (const Table& table : report.tables) {
    if (table.name == name) return table;
    names += (names.empty() ? "" : ", ") + table.name;
  }
  throw InvalidInput("no table \"" + OneLine(std::string(name)) + "\", expected one of " + names);
}

}  // namespace kvr::report
