// Two runs of one config compared, as a gate for changes: what must be equal exactly, and times by
// ratios within each run (docs/statistics.md, "Two runs").
//
// Thread safety: plain values and pure functions.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kvr/record/run.h"
#include "kvr/record/statistics.h"

namespace kvr::report {

struct CompareOptions {
  double threshold = 0.05;           // a slowdown counts beyond it, as a share of the time
  double level = 0.05;               // of a false alarm among all judged times
  std::vector<std::string> metrics;  // of times, by MetricNames(); empty: all
  bool times = true;
  bool absolute = false;     // judge times themselves as well
  bool fewer_cells = false;  // let NEW lack cells of BASE, which are then left out
};

// All repetitions of a prompt, run in one way.
struct ExactCase {
  std::string model, precision, prompt;
  std::string way;  // "baseline", "embedding/whole, 1 candidate", ...
  auto operator<=>(const ExactCase&) const = default;
};

// A field that is not as it was.
struct ExactChange {
  ExactCase of;
  bool regression = true;  // else an improvement
  std::string field, was, is;
  std::vector<std::int64_t> repetitions;
};

enum class TimeVerdict { kSteady, kSlower, kFaster, kNotJudged };

// One time of one way of reuse over all prompts that both runs have it of.
struct TimeRow {
  std::string model, precision, way, metric;
  bool absolute = false;  // the time itself; else a ratio of one run's times
  std::size_t prompts = 0, clusters = 0;
  // NEW over BASE. Nothing for no prompt; intervals and the rest only where there are clusters
  // enough.
  std::optional<double> ratio;
  std::optional<record::Interval> interval;  // 95 %, this row alone
  std::optional<double> p;                   // by Holm, over all judged rows
  // The smallest slowdown that is found in 80 of 100 such pairs of runs, at Holm's first step.
  std::optional<double> detectable;
  TimeVerdict verdict = TimeVerdict::kNotJudged;
};

struct Comparison {
  std::string base, now;  // what was compared, in words
  CompareOptions options;
  std::int64_t cells = 0;        // compared exactly
  std::vector<ExactCase> cases;  // the same by prompt and way, in order
  std::vector<ExactChange> changes;
  std::vector<TimeRow> times;
  std::vector<std::string> notes;  // what was not compared, and why

  [[nodiscard]] std::int64_t ExactRegressions() const;
  [[nodiscard]] std::int64_t SlowerTimes() const;
  [[nodiscard]] bool Regressed() const;
};

// Throws kInvalidInput, naming all that differs, unless runs of these configs and prompts may be
// compared: what a config says of its name, files, repetitions, warm-ups and threads is no
// difference. Reads neither models nor cells.
void CheckSameConfig(const record::Run& base, const record::Run& now);

// Compares NEW with BASE. Throws kInvalidInput when they can't be: another schema, config or
// prompts, another model of the same name, cells of BASE that NEW lacks (but for
// options.fewer_cells), nothing in common, or, for absolute times, another machine or build; and
// for an unknown metric. Cost: a few passes over the cells.
[[nodiscard]] Comparison Compare(const record::Run& base, const record::Run& now,
                                 const CompareOptions& options);

// Names of the times that are judged, in the order of the output.
[[nodiscard]] std::vector<std::string> MetricNames();

// A way to write a comparison. A format is one file in src/report/compare/ and one line in
// formats.h there.
struct CompareFormat {
  const char* name;
  std::string (*render)(const Comparison& comparison);
};
[[nodiscard]] std::span<const CompareFormat> CompareFormats();
// Throws kInvalidInput, naming all formats, where there is none of that name.
[[nodiscard]] const CompareFormat& FindCompareFormat(std::string_view name);

}  // namespace kvr::report
