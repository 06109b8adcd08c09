// Reports: tables computed from the cells of one or more runs, and five ways to write them.
// What each table computes stands in its note and in docs/results_format.md.
//
// Thread safety: plain values and pure functions.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kvr/base/json.h"
#include "kvr/record/run.h"

namespace kvr::report {

// A table's value: `text` for people, rounded and with its unit; `raw` for programs, in full, and
// null where nothing was measured ("-" in the text).
struct Value {
  std::string text = "-";
  Json raw = nullptr;
};

struct Column {
  std::string key;   // its name in JSON and CSV, with the unit
  std::string head;  // its head for people
  bool right = true;
  bool constant = false;  // the same in the whole report: left out for people
};

struct Table {
  std::string name;  // in JSON and on the command line: "prompts"
  std::string title;
  std::string note;  // how each column is computed
  std::vector<Column> columns;
  std::vector<std::vector<Value>> rows;  // each as long as `columns`
};

struct Report {
  std::vector<std::string> alarms;    // a claim that the cells contradict; empty in a sound run
  std::vector<std::string> facts;     // what ran, where, and how far it came
  std::vector<std::string> warnings;  // what a reader should know before quoting a number
  std::vector<std::string> claims;    // what the tables say, in sentences
  std::vector<Table> tables;
  bool one_scope = true;  // one run of one model: claims need not name it
};

// Computes all tables and claims; numbers come from the runs' cells and nothing else. Several runs
// share the tables, told apart by a column. Cost: a few passes over the cells, and little more.
[[nodiscard]] Report BuildReport(std::span<const record::Run> runs);

// The tables of a trace's arithmetic alone, which is of no run: "trace" and "trace_bins". REQUIRES:
// all rows are of one model, or of none.
[[nodiscard]] std::vector<Table> TraceTables(std::vector<record::TraceRow> rows);

// A way to write a report. CSV: RFC 4180; the report has one block per table, each after a line
// "# <name>: <title>" and ended by an empty line, alarms and warnings are "#" lines on top, and one
// table alone is a plain file with one head line. LaTeX: a fragment for \input that needs the
// packages booktabs and longtable. JSON: one object.
struct Format {
  const char* name;
  std::string (*table)(const Table& table);     // one table alone
  std::string (*report)(const Report& report);  // the whole report
};

// All of them. A format is one file in src/report/formats/ and one line in formats.h there.
[[nodiscard]] std::span<const Format> Formats();
[[nodiscard]] std::vector<std::string> FormatNames(std::span<const Format> registry = Formats());
// Throws kInvalidInput, naming all formats, where there is none of that name.
[[nodiscard]] const Format& FindFormat(std::string_view name,
                                       std::span<const Format> registry = Formats());

// One screen for people: at most 40 lines of 120 characters. What ran, the claims, alarms and
// warnings, and how to see more.
[[nodiscard]] std::string RenderScreen(const Report& report);

// The tables' names, in the order of the report.
[[nodiscard]] std::vector<std::string> TableNames();
// Throws kInvalidInput, naming all tables, where there is none of that name.
[[nodiscard]] const Table& FindTable(const Report& report, std::string_view name);

}  // namespace kvr::report
