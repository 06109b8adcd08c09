// The lines above a report's tables.
#pragma once

#include "kvr/report/report.h"
#include "samples.h"

namespace kvr::report {

// Alarms, facts and warnings about a run, and about one of its models.
void DescribeRun(const Run& run, Report& report);
void DescribeScope(const Scope& scope, Report& report);

// What the tables say of a model, in sentences.
void Claim(const Scope& scope, Report& report);

}  // namespace kvr::report
