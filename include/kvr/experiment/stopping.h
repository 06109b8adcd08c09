// How many rounds a model's sweep takes: a fixed number, or until the noise among rounds leaves the
// mean speed-up's interval narrower than the config asks ("until_width"; docs/statistics.md, "How
// many repetitions", says why that and not the whole interval).
//
// Thread safety: none. Errors: none. Cost: two numbers kept a prompt and round.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "kvr/experiment/config.h"
#include "kvr/record/cell.h"
#include "kvr/record/run.h"

namespace kvr::experiment {

class Stopping {
 public:
  // Of the model, whose baseline is chosen. REQUIRES: `config` outlives this.
  Stopping(const Config& config, const record::ModelInfo& model);

  // Takes the times of a cell that ended; in any order, so that a resumed run decides as one in one
  // go. Other models' cells, and those that the rule does not look at, are passed over.
  void Add(const record::Cell& cell);

  // What holds after so many whole rounds. `stopped_by` is null where one more is needed.
  [[nodiscard]] record::Repetitions After(int rounds) const;

 private:
  struct Times {
    std::string group, cluster;
    std::map<std::int64_t, double> baseline_ms, recycled_ms;  // by round
  };

  const Config& config_;
  std::string model_, precision_;
  std::vector<std::string> controls_;
  record::Cell baseline_, recycled_;    // the two ways that are compared, described
  std::map<std::string, Times> times_;  // by prompt
};

}  // namespace kvr::experiment
