#include "kvr/base/json.h"

#include "formats.h"
#include "kvr/record/run.h"

namespace kvr::report {
namespace {

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

std::string JsonReport(const Report& report) {
  Json tables = Json::array();
  for (const Table& table : report.tables) tables.push_back(JsonTable(table));
  return Pretty({{"schema", record::kResultsSchema},
                 {"alarms", report.alarms},
                 {"facts", report.facts},
                 {"claims", report.claims},
                 {"warnings", report.warnings},
                 {"tables", std::move(tables)}});
}

}  // namespace

const Format kJsonFormat = {"json", [](const Table& table) { return Pretty(JsonTable(table)); },
                            JsonReport};

}  // namespace kvr::report
