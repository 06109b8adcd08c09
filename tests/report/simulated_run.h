// Runs of which the truth is known, cell by cell.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <numbers>
#include <random>
#include <string>

#include "kvr/report/report.h"

namespace kvr::report {

using namespace record;

class Noise {
 public:
  Noise(std::uint64_t seed, bool heavy) : random_(seed), heavy_(heavy) {}

  double Uniform() { return (static_cast<double>(random_() >> 11) + 0.5) * 0x1p-53; }
  double Normal() {
    return std::sqrt(-2 * std::log(Uniform())) * std::cos(2 * std::numbers::pi * Uniform());
  }
  // One time's factor: lognormal of 3 %; or Student's t of 3 degrees of freedom, of 2 %, with one
  // time in twenty doubled.
  double Factor() {
    if (!heavy_) return std::exp(0.03 * Normal());
    double squares = 0;
    for (int i = 0; i < 3; ++i) squares += std::pow(Normal(), 2);
    return std::exp(0.02 * Normal() / std::sqrt(squares / 3)) * (Uniform() < 0.05 ? 2 : 1);
  }

 private:
  std::mt19937_64 random_;
  bool heavy_;
};

// KVR_SIMULATIONS, or else `fallback` runs behind each line.
inline int Simulations(int fallback) {
  const char* const wanted = std::getenv("KVR_SIMULATIONS");
  return wanted == nullptr ? fallback : std::max(1, std::atoi(wanted));
}

// A baseline cell.
inline Cell CellOf(const std::string& group, const std::string& id, const std::string& parent,
                   int repetition, double ttft_ms) {
  Cell cell;
  cell.model = "m";
  cell.precision = "fp32";
  cell.workload = group;
  cell.prompt_id = id;
  cell.cached_parent = parent;
  cell.repetition = repetition;
  cell.arm = "baseline";
  cell.schedule = "block";
  cell.policy = "off";
  cell.outcome = "off";
  cell.prompt_tokens = 100;
  cell.prefill_ms = cell.ttft_ms = ttft_ms;
  cell.new_tokens = 1;
  cell.full = false;
  return cell;
}

// The same by the prefix policy, which restored half of the prompt.
inline Cell HitOf(Cell cell) {
  cell.arm = "recycled";
  cell.policy = "prefix";
  cell.match = "token";
  cell.outcome = "hit";
  cell.reuse_depth = 50;
  return cell;
}

inline Run RunOf(const std::string& name) {
  Run run;
  run.label = run.name = name;
  run.finished = "now";
  run.models.push_back({.name = "m", .precision = "fp32"});
  return run;
}

// The first row for which every wanted pair of key and value holds.
inline Json RowOf(const Report& report, const char* table, const Json& wanted) {
  const Json json = Json::parse(FindFormat("json").table(FindTable(report, table)));
  for (const Json& row : json.at("rows")) {
    bool all = true;
    for (const auto& [key, value] : wanted.items()) all = all && row.at(key) == value;
    if (all) return row;
  }
  ADD_FAILURE() << table << " " << wanted;
  return Json::object();
}

}  // namespace kvr::report
