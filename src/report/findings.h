// The lines above a report's tables.
#pragma once

#include "kvr/report/report.h"
#include "samples.h"

namespace kvr::report {

// Alarms, facts and warnings about a run, and about one of its models.
void DescribeRun(const Run& run, Report& report);
void DescribeScope(const Scope& scope, Report& report);

// What disturbed the measurement, each with what to do: load and steal time of a run; outliers,
// drift, and files that were not where their cells wanted them, of one model.
void DescribeLoad(const Run& run, Report& report);
void DescribeDisturbances(const Scope& scope, Report& report);

// What the tables, which are of all `scopes`, say of a model, in sentences.
void Claim(const Scope& scope, std::span<const Scope> scopes, Report& report);

}  // namespace kvr::report
