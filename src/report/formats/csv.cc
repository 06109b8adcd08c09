#include <algorithm>

#include "formats.h"
#include "layout.h"

namespace kvr::report {
namespace {

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

// A spreadsheet computes what begins with one of these, also behind what it may take for the end of
// a cell. An apostrophe makes it a text again; the JSON has texts unchanged.
std::string WithoutFormulas(const std::string& text) {
  std::string out;
  bool begins = true;
  for (const char c : text) {
    if (begins && std::string_view("=+-@").find(c) != std::string_view::npos) out += '\'';
    out += c;
    begins = std::string_view(",;\t\r\n\"").find(c) != std::string_view::npos;
  }
  return out;
}

std::string CsvText(const std::string& raw) {
  std::string text = WithoutFormulas(WithoutControls(raw));
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
  if (raw.is_number() || raw.is_boolean()) return DumpLine(raw);
  return CsvText(raw.is_string() ? raw.get<std::string>() : DumpLine(raw));
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

std::string CsvReport(const Report& report) {
  return RenderAll(
      report,
      [](const std::string& text, bool) { return "# " + WithoutFormulas(OneLine(text)) + '\n'; },
      [](const Table& table) {
        return "# " + table.name + ": " + table.title + '\n' + CsvTable(table);
      });
}

}  // namespace

const Format kCsvFormat = {"csv", CsvTable, CsvReport};

}  // namespace kvr::report
