// The report's tables: one file and one line here for each, in the order in which they are shown.
// --table, messages and the whole report go by this list.
#pragma once

#include <array>
#include <span>
#include <vector>

#include "../samples.h"
#include "kvr/report/report.h"

namespace kvr::report {

#define KVR_REPORT_TABLES(TABLE) \
  TABLE(PaperTable)              \
  TABLE(PromptTable)             \
  TABLE(SpeedTable)              \
  TABLE(MarkTable)               \
  TABLE(PhaseTable)              \
  TABLE(FidelityTable)           \
  TABLE(ControlTable)            \
  TABLE(BaselineTable)           \
  TABLE(ExactnessTable)          \
  TABLE(FoundTable)              \
  TABLE(DepthTable)              \
  TABLE(FillTable)               \
  TABLE(BreakEvenTable)          \
  TABLE(CodecTable)              \
  TABLE(LimitsTable)

#define KVR_DECLARE_TABLE(function) Table function(const std::vector<Scope>& scopes);
KVR_REPORT_TABLES(KVR_DECLARE_TABLE)
#undef KVR_DECLARE_TABLE

using MakeTable = Table (*)(const std::vector<Scope>& scopes);

#define KVR_LIST_TABLE(function) function,
inline constexpr auto kTables = std::to_array<MakeTable>({KVR_REPORT_TABLES(KVR_LIST_TABLE)});
#undef KVR_LIST_TABLE

// A report of these tables.
[[nodiscard]] Report BuildReport(std::span<const Run> runs, std::span<const MakeTable> tables);

}  // namespace kvr::report
