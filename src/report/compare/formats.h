// A comparison's formats: one file and one line here for each.
#pragma once

#include "kvr/report/compare.h"
#include "kvr/report/report.h"

namespace kvr::report {

#define KVR_COMPARE_FORMATS(FORMAT) \
  FORMAT(kCompareText)              \
  FORMAT(kCompareMarkdown)          \
  FORMAT(kCompareJson)              \
  FORMAT(kCompareJunit)

#define KVR_DECLARE_FORMAT(name) extern const CompareFormat name;
KVR_COMPARE_FORMATS(KVR_DECLARE_FORMAT)
#undef KVR_DECLARE_FORMAT

// What the formats share: the comparison in sentences, its regressions as alarms; and as tables.
[[nodiscard]] Report InWords(const Comparison& comparison);

// "t01, embedding/token, 5 candidates, repetitions 0 and 1: reuse_depth 17, was 18"
[[nodiscard]] std::string Said(const ExactChange& change);
// "embedding/token, 5 candidates, restore: +12.3 % (95 %: +10.1 to +14.6 %; p 0.001)"
[[nodiscard]] std::string Said(const TimeRow& row);
[[nodiscard]] std::string ToString(TimeVerdict verdict);

}  // namespace kvr::report
