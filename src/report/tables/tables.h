// The report's tables: one file and one line here for each, in the order in which they are shown.
// --table, messages and the whole report go by this list.
#pragma once

#include <array>
#include <span>
#include <vector>

#include "../samples.h"
#include "kvr/report/report.h"

namespace kvr::report {

// clang-format off
#define KVR_REPORT_TABLES(TABLE) \
  TABLE(paper, PaperTable) \
  TABLE(prompts, PromptTable) \
  TABLE(workloads, SpeedTable) \
  TABLE(totals, MarkTable) \
  TABLE(phases, PhaseTable) \
  TABLE(fidelity, FidelityTable) \
  TABLE(no_overlap, ControlTable) \
  TABLE(baselines, BaselineTable) \
  TABLE(exactness, ExactnessTable) \
  TABLE(depth_found, FoundTable) \
  TABLE(depth, DepthTable) \
  TABLE(fill, FillTable) \
  TABLE(break_even, BreakEvenTable) \
  TABLE(codecs, CodecTable) \
  TABLE(limits, LimitsTable) \
  TABLE(turns, TurnTable) \
  TABLE(conversations, LengthTable) \
  TABLE(usable_context, UsableTable) \
  TABLE(ready, ReadyTable) \
  TABLE(retrieval, RetrievalTable) \
  TABLE(retrieval_kinds, RetrievalKindTable) \
  TABLE(trace, TraceTable) \
  TABLE(trace_bins, TraceBinsTable) \
  TABLE(percentiles, QuantileTable) \
  TABLE(memory, MemoryTable)
// clang-format on

#define KVR_DECLARE_TABLE(name, function) Table function(const std::vector<Scope>& scopes);
KVR_REPORT_TABLES(KVR_DECLARE_TABLE)
#undef KVR_DECLARE_TABLE

// What a table is called, in JSON and on the command line, and how it is computed.
struct TableKind {
  const char* name;
  Table (*make)(const std::vector<Scope>& scopes);
};

#define KVR_LIST_TABLE(name, function) TableKind{#name, function},
inline constexpr auto kTables = std::to_array<TableKind>({KVR_REPORT_TABLES(KVR_LIST_TABLE)});
#undef KVR_LIST_TABLE

// A report of these tables.
[[nodiscard]] Report BuildReport(std::span<const Run> runs, std::span<const TableKind> tables);

}  // namespace kvr::report
