// A further table, or format, is one function and one line: these add one of each.
#include "../../src/report/tables/table_of.h"
#include "../../src/report/tables/tables.h"
#include "report_fixture.h"

namespace kvr::report {
namespace {

Table SlowestTable(const std::vector<Scope>& scopes) {
  struct Row : ScopeRow {
    const PromptCells& prompt;
  };
  TableOf<Row> table("Slowest baseline of each prompt", "In ms.");
  table.Left("prompt_id", "prompt", [](const Row& row) { return Text(row.prompt.id); })
      .Right("slowest_ms", "slowest", [](const Row& row) {
        return Ms(Quantile(Collect(row.prompt.baseline, &Cell::ttft_ms), 1));
      });
  for (const Scope& scope : scopes) {
    for (const PromptCells& prompt : scope.prompts) table.Add({{scope}, prompt});
  }
  return table.Finish();
}

TEST_F(ReportTest, AddingOneTableIsOneFunctionAndOneLine) {
  std::vector<TableKind> tables(kTables.begin(), kTables.end());
  tables.push_back({"slowest", SlowestTable});
  const Run run = ReadRun(Write(Sample()));
  const Report report = BuildReport({&run, 1}, tables);
  EXPECT_EQ(report.tables.size(), kTables.size() + 1);
  EXPECT_EQ(Row(report, "slowest", {{"prompt_id", "t1"}}).at("slowest_ms"), 140);
  EXPECT_EQ(FindTable(report, "slowest").columns[4].head, "slowest");
  for (const std::string& name : FormatNames()) {
    EXPECT_NE(FindFormat(name).report(report).find("140"), std::string::npos) << name;
  }
}

TEST_F(ReportTest, AddingOneFormatIsOneFileAndOneLine) {
  std::vector<Format> formats(Formats().begin(), Formats().end());
  formats.push_back({"count", [](const Table& table) { return std::to_string(table.rows.size()); },
                     [](const Report& report) { return std::to_string(report.tables.size()); }});
  EXPECT_EQ(FormatNames(formats).back(), "count");
  EXPECT_EQ(FindFormat("count", formats).report(ReportOf(Sample())),
            std::to_string(kTables.size()));
  EXPECT_NE(
      std::string(ErrorOf([&] { (void)FindFormat("x", formats); }).what()).find("json, count"),
      std::string::npos);
}

}  // namespace
}  // namespace kvr::report
