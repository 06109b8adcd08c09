// Reports of run folders made by hand.
#pragma once

#include <stdexcept>
#include <string>
#include <vector>

#include "kvr/report/report.h"
#include "record/run_fixture.h"

namespace kvr::report {

using namespace record;

inline std::string Render(const Table& table, const char* format) {
  return FindFormat(format).table(table);
}
inline std::string Render(const Report& report, const char* format) {
  return FindFormat(format).report(report);
}

class ReportTest : public RunTest {
 protected:
  Report ReportOf(const std::vector<Json>& cells, const Json& description = Description()) {
    const Run run = ReadRun(Write(cells, description));
    return BuildReport({&run, 1});
  }
};

inline const Table& TableNamed(const Report& report, const std::string& name) {
  for (const Table& table : report.tables) {
    if (table.name == name) return table;
  }
  throw std::out_of_range(name);
}

// The rows of the JSON output, for which every wanted pair of key and value holds.
inline std::vector<Json> Rows(const Report& report, const std::string& name,
                              const Json& wanted = Json::object()) {
  std::vector<Json> rows;
  const Json table = Json::parse(Render(TableNamed(report, name), "json"));
  for (const Json& row : table.at("rows")) {
    bool all = true;
    for (const auto& [key, value] : wanted.items()) all = all && row.at(key) == value;
    if (all) rows.push_back(row);
  }
  return rows;
}

inline Json Row(const Report& report, const std::string& name,
                const Json& wanted = Json::object()) {
  const std::vector<Json> rows = Rows(report, name, wanted);
  EXPECT_EQ(rows.size(), 1u) << name << " " << wanted;
  return rows.empty() ? Json::object() : rows.front();
}

// t1: baselines 100, 140, 120, free 90; recycled 30, 50, 40. t2: baselines 200, no free one;
// recycled 100. Unrelated u1: baselines 60 and a second run of 66; recycled 64.
inline std::vector<Json> Sample() {
  const Json control = {{"workload", "unrelated"}};
  Json second = Base("u1", 0, 66, {{"workload", "unrelated"}, {"control", true}});
  second["fidelity"] = kSame;
  Json miss = Recycled("u1", 0, 64, 0, {{"workload", "unrelated"}, {"prefill_ms", 63.0}});
  return {Base("t1", 0, 100),
          Base("t1", 1, 140),
          Base("t1", 2, 120),
          Free("t1", 90),
          Recycled("t1", 0, 30, 60, {{"similarity", 0.9}}),
          Recycled("t1", 1, 50, 60, {{"similarity", 0.9}}),
          Recycled("t1", 2, 40, 60, {{"similarity", 0.9}}),
          Base("t2", 0, 200),
          Recycled("t2", 0, 100, 40, {{"available_depth", 80}}),
          Recycled("t1", 0, 45, 64, {{"policy", "prefix"}}),
          Base("u1", 0, 60, control),
          second,
          miss};
}

inline Json Null(const char* prompt, int repetition, double ttft_ms, const Json& changes) {
  Json line = Base(prompt, repetition, ttft_ms, {{"schema", 2}, {"arm", "recycled"}});
  line.update(changes);
  return line;
}

// Six control prompts of the same work in every arm, and of one that is 10 % slower.
inline std::vector<Json> ControlCells() {
  std::vector<Json> cells;
  for (int p = 0; p < 6; ++p) {
    const std::string id = "u" + std::to_string(p);
    for (int i = 0; i < 3; ++i) {
      const Json group = {{"workload", "unrelated"}};
      const double ms = 100 + i;
      cells.push_back(Base(id.c_str(), i, ms, group));
      cells.push_back(Null(id.c_str(), i, ms * (p % 2 == 0 ? 1.002 : 0.998), group));
      cells.push_back(
          Recycled(id.c_str(), i, ms, 0,
                   {{"workload", "unrelated"}, {"prefill_ms", ms * (p % 2 == 0 ? 1.09 : 1.11)}}));
    }
  }
  return cells;
}

}  // namespace kvr::report
