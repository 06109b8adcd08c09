#include "kvr/report/report.h"

#include <optional>
#include <set>

#include "findings.h"
#include "kvr/base/error.h"
#include "kvr/base/json.h"
#include "samples.h"
#include "tables/tables.h"

namespace kvr::report {
namespace {

// Columns that say the same in every row are for programs.
void MarkConstants(const std::vector<Scope>& scopes, std::size_t runs, std::vector<Table>* tables) {
  std::set<std::string> models, precisions, codecs;
  std::set<std::optional<std::int64_t>> candidates;
  for (const Scope& scope : scopes) {
    models.insert(scope.model);
    precisions.insert(scope.precision);
    for (const Variant& variant : scope.variants) {
      codecs.insert(variant.codec);
      if (variant.policy == "embedding") candidates.insert(variant.candidates);
    }
  }
  for (Table& table : *tables) {
    for (Column& column : table.columns) {
      if (column.key == "run") column.constant = runs < 2;
      if (column.key == "model") column.constant = models.size() < 2;
      if (column.key == "precision") column.constant = precisions.size() < 2;
      if (column.key == "candidates") column.constant = candidates.size() < 2;
      if (column.key == "codec" && table.name != "codecs") column.constant = codecs.size() < 2;
    }
  }
}

}  // namespace

Report BuildReport(std::span<const Run> runs) { return BuildReport(runs, kTables); }

Report BuildReport(std::span<const Run> runs, std::span<const MakeTable> tables) {
  const std::vector<Scope> scopes = ScopesOf(runs);
  Report report;
  report.one_scope = scopes.size() < 2;
  for (const Run& run : runs) DescribeRun(run, report);
  for (const Scope& scope : scopes) {
    DescribeScope(scope, report);
    Claim(scope, report);
  }
  for (const MakeTable make : tables) report.tables.push_back(make(scopes));
  MarkConstants(scopes, runs.size(), &report.tables);
  return report;
}

std::vector<std::string> TableNames() {
  std::vector<std::string> names;
  names.reserve(kTables.size());
  for (const MakeTable make : kTables) names.push_back(make({}).name);
  return names;
}

const Table& FindTable(const Report& report, std::string_view name) {
  std::string names;
  for (const Table& table : report.tables) {
    if (table.name == name) return table;
    names += (names.empty() ? "" : ", ") + table.name;
  }
  throw InvalidInput("no table \"" + Shortened(name, 60) + "\", expected one of " + names);
}

}  // namespace kvr::report
