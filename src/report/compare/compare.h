// Private to the comparison: its parts.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "../samples.h"
#include "kvr/report/compare.h"

namespace kvr::report {

// One model of both runs, and what may be asked of it.
struct ModelPair {
  const ModelInfo* base = nullptr;
  const ModelInfo* now = nullptr;
  bool same_bits = false;   // both ran where outputs are equal to the last bit
  bool same_probe = false;  // exactness of cuts was found alike
  bool same_cuts = false;   // the schedule cuts prompts alike
  bool same_baseline = false;
};

using ModelKey = std::pair<std::string, std::string>;  // name, precision

// Throws kInvalidInput unless all models of BASE are in NEW, by their fingerprints. Adds to `notes`
// what can't be compared.
[[nodiscard]] std::map<ModelKey, ModelPair> PairModels(const Run& base, const Run& now,
                                                       std::vector<std::string>* notes);

// Throws kInvalidInput, naming what differs, unless times of both runs are of one machine and
// build.
void CheckSameMachine(const Run& base, const Run& now);

// "cpu_model is "A", was "B"", for each of `keys` that differs or that a run does not tell.
[[nodiscard]] std::vector<std::string> EnvironmentDifferences(const Run& base, const Run& now,
                                                              std::span<const char* const> keys);

struct CellPair {
  const Cell* base = nullptr;
  const Cell* now = nullptr;
};

// How the cell ran: "baseline", "second baseline", "null variant", or the variant's title.
[[nodiscard]] std::string WayOf(const Cell& cell);
[[nodiscard]] ExactCase CaseOf(const Cell& cell);

// Compares all that must be equal; fills in changes and notes.
void CompareExactly(const std::vector<CellPair>& pairs, const std::map<ModelKey, ModelPair>& models,
                    Comparison* comparison);

// Judges the times; fills in times and notes.
void CompareTimes(const Run& base, const Run& now, Comparison* comparison);

}  // namespace kvr::report
