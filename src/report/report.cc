#include "kvr/report/report.h"

#include <spdlog/fmt/fmt.h>

#include <optional>
#include <set>

#include "findings.h"
#include "kvr/base/error.h"
#include "kvr/base/json.h"
#include "kvr/base/registry.h"
#include "samples.h"
#include "tables/tables.h"

namespace kvr::report {
namespace {

// Columns that say the same in every row are for programs.
void MarkConstants(const std::vector<Scope>& scopes, std::size_t runs, std::vector<Table>* tables) {
  std::set<std::string> models, precisions, codecs, page_caches, traces;
  std::set<std::optional<std::int64_t>> candidates;
  for (const Scope& scope : scopes) {
    models.insert(scope.model);
    precisions.insert(scope.precision);
    for (const TraceRow& row : scope.run->trace) traces.insert(row.trace);
    for (const Variant& variant : scope.variants) {
      codecs.insert(variant.codec);
      page_caches.insert(variant.page_cache);
      if (variant.policy == "embedding") candidates.insert(variant.candidates);
    }
  }
  for (Table& table : *tables) {
    for (Column& column : table.columns) {
      if (column.key == "run") column.constant = runs < 2;
      if (column.key == "model") column.constant = models.size() < 2;
      if (column.key == "precision") column.constant = precisions.size() < 2;
      if (column.key == "trace") column.constant = traces.size() < 2;
      if (column.key == "candidates") column.constant = candidates.size() < 2;
      if (column.key == "asked_page_cache") column.constant = page_caches.size() < 2;
      if (column.key == "codec" && table.name != "codecs") column.constant = codecs.size() < 2;
    }
  }
}

}  // namespace

Report BuildReport(std::span<const Run> runs) { return BuildReport(runs, kTables); }

Report BuildReport(std::span<const Run> runs, std::span<const TableKind> tables) {
  const std::vector<Scope> scopes = ScopesOf(runs);
  Report report;
  report.one_scope = scopes.size() < 2;
  for (const Run& run : runs) DescribeRun(run, report);
  for (const Scope& scope : scopes) {
    DescribeScope(scope, report);
    Claim(scope, scopes, report);
  }
  for (const TableKind& kind : tables) {
    report.tables.push_back(kind.make(scopes));
    report.tables.back().name = kind.name;
  }
  MarkConstants(scopes, runs.size(), &report.tables);
  return report;
}

std::vector<Table> TraceTables(std::vector<TraceRow> rows) {
  Run run;
  run.trace = std::move(rows);
  Scope scope;
  scope.run = &run;
  if (!run.trace.empty()) {
    scope.model = run.trace.front().model.value_or("");
    scope.precision = run.trace.front().precision.value_or("");
  }
  std::vector<Table> tables;
  for (const TableKind& kind : kTables) {
    if (kind.make != TraceTable && kind.make != TraceBinsTable) continue;
    tables.push_back(kind.make({scope}));
    tables.back().name = kind.name;
  }
  MarkConstants({scope}, 1, &tables);
  return tables;
}

std::vector<std::string> TableNames() { return NamesOf(std::span<const TableKind>(kTables)); }

const Table& FindTable(const Report& report, std::string_view name) {
  std::vector<std::string> names;
  for (const Table& table : report.tables) {
    if (table.name == name) return table;
    names.push_back(table.name);
  }
  throw InvalidInput(fmt::format("no table \"{}\", expected one of {}", Shortened(name, 60),
                                 fmt::join(names, ", ")));
}

}  // namespace kvr::report
