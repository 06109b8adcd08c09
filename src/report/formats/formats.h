// The report's formats: one file and one line here for each.
#pragma once

#include "kvr/report/report.h"

namespace kvr::report {

#define KVR_REPORT_FORMATS(FORMAT) \
  FORMAT(kTextFormat)              \
  FORMAT(kMarkdownFormat)          \
  FORMAT(kCsvFormat)               \
  FORMAT(kLatexFormat)             \
  FORMAT(kJsonFormat)

#define KVR_DECLARE_FORMAT(name) extern const Format name;
KVR_REPORT_FORMATS(KVR_DECLARE_FORMAT)
#undef KVR_DECLARE_FORMAT

}  // namespace kvr::report
