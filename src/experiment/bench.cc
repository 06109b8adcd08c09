#include "kvr/experiment/bench.h"

#include "bench_meter.h"

namespace kvr::experiment {

bool MoreIsBetter(const std::string& unit) { return unit != "ms" && unit != "MB"; }

std::optional<double> BenchRow::ratio() const {
  if (!bound) return std::nullopt;
  return MoreIsBetter(unit) ? measured / *bound : *bound / measured;
}

BenchResult RunBench(engine::Generator& generator, const BenchOptions& options) {
  BenchMeter meter(generator, options);
  generator.WarmUp();
  const bool on_device = generator.language_model().device() != "cpu";
  BenchResult result;
  for (const BenchPhase& phase : BenchPhases()) {
    for (BenchRow& row : phase.run(meter)) {
      if (row.phase.empty()) row.phase = phase.name;
      if (on_device) row.bound.reset();  // the limits are the CPU's
      result.rows.push_back(std::move(row));
    }
  }
  result.limits = meter.limits();
  result.setting = DescribeSetting(generator, options);
  result.setting.model["device"] = generator.language_model().device_description();
  result.setting.model["parameters"] = generator.info().parameters;
  return result;
}

Json ToJson(const BenchResult& result) {
  Json gemm = Json::object(), rows = Json::array();
  for (const auto& [count, rate] : result.limits.gemm_gflop_per_s_by_rows) {
    gemm[std::to_string(count)] = rate;
  }
  const auto optional = [](const std::optional<double>& value) {
    return value ? Json(*value) : Json(nullptr);
  };
  for (const BenchRow& row : result.rows) {
    rows.push_back({{"phase", row.phase},
                    {"what", row.what},
                    {"measured", row.measured},
                    {"bound", optional(row.bound)},
                    {"unit", row.unit},
                    {"ratio", optional(row.ratio())}});
  }
  Json json = ToJson(result.setting);
  json["limits"] = {{"read_gb_per_s", result.limits.read_gb_per_s},
                    {"copy_gb_per_s", result.limits.copy_gb_per_s},
                    {"gemm_gflop_per_s_by_rows", gemm}};
  json["rows"] = rows;
  return json;
}

}  // namespace kvr::experiment
