// What stands in a report's tables, and the tables' making.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kvr/report/report.h"
#include "samples.h"

namespace kvr::report {

[[nodiscard]] std::string Print(const char* format, double number);

[[nodiscard]] Value Text(const std::optional<std::string>& text);
[[nodiscard]] Value Count(std::int64_t count);
[[nodiscard]] Value Formatted(const char* format, Number number, double factor = 1);
// Three digits that say something, as no clock here is better than that.
[[nodiscard]] Value Ms(Number ms);
[[nodiscard]] Value Times(Number ratio);
[[nodiscard]] Value Small(Number number);
[[nodiscard]] Value Percent(Number share);
[[nodiscard]] Value SignedPercent(Number share);
// "39 of 40", because 39999 of 40000 would be rounded to 100 %. Raw: the share.
[[nodiscard]] Value Rate(std::int64_t count, std::int64_t of);
// An estimate's ratio, and its interval's ends.
[[nodiscard]] Value Ratio(const std::optional<Estimate>& estimate);
[[nodiscard]] std::pair<Value, Value> Ends(const std::optional<Estimate>& estimate);
[[nodiscard]] std::string ToString(Verdict verdict);
// Policy, match, candidates, codec.
[[nodiscard]] std::vector<Value> Name(const Variant& variant);

// The mean of `member`, a likeness of texts, over the cells where texts mean something; where none
// does, the reason.
[[nodiscard]] Value Semantic(const Cells& cells, Number Fidelity::*member);

// A table whose rows begin with run, model and precision.
class Builder {
 public:
  // `columns`: keys with a space between them; "<" before a key aligns its column left, and a head
  // that is not the key follows it after a colon, with "_" for a space. "@" stands for the columns
  // of Name().
  Builder(std::string name, std::string title, const std::string& columns, std::string note);
  void Row(const Scope& scope, std::vector<Value> values);
  // A row of cells that one variant made: `before`, its name, `after`.
  void Row(const Scope& scope, std::vector<Value> before, const Variant& variant,
           std::vector<Value> after);
  Table Finish() { return std::move(table_); }

 private:
  Table table_;
};

[[nodiscard]] Table PaperTable(const std::vector<Scope>& scopes);
[[nodiscard]] Table MarkTable(const std::vector<Scope>& scopes);

// The lines on top: alarms, facts, warnings; and what the tables say, in sentences.
void DescribeRun(const Run& run, Report& report);
void DescribeScope(const Scope& scope, Report& report);
void Claim(const Scope& scope, Report& report);

}  // namespace kvr::report
