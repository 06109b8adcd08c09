// What a run records of the machine and the program.
//
// Thread safety: callable from any thread once model::SetUpRuntime has returned. Errors: none; what
// the system does not tell is null. Cost: a few small files of /proc.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "kvr/base/clock.h"
#include "kvr/base/json.h"
#include "kvr/engine/generator.h"

namespace kvr::experiment {

// cpu_model, instruction_set, threads, cpus, usable_cores, cores_limited_by (base/cores.h),
// libtorch_version, host, kernel, memory_bytes, load_average, commit (that was built), dirty (its
// tracked files differed), version, build_type, compiler {name, version}, libraries (versions by
// name), and what machine_facts.h tells. REQUIRES: model::SetUpRuntime was called.
[[nodiscard]] Json DescribeEnvironment();

// "0.1.0 (abc123)".
[[nodiscard]] std::string VersionAndCommit();

// name, precision, fingerprint, random_weights, block_tokens of the language model.
[[nodiscard]] Json DescribeModel(engine::Generator& generator);

// What else the machine did while something was measured. Starts when built.
class LoadMeter {
 public:
  // Forgets the process's peak of memory until now.
  LoadMeter();

  // Milliseconds; nothing where the system can't tell. All CPUs together. The system counts in
  // ticks of some 10 ms, so a short time's are coarse.
  struct Load {
    double wall_ms = 0;
    std::optional<double> other_cpu_ms;             // that other processes computed
    std::optional<double> steal_ms;                 // that the hypervisor gave to other machines
    std::optional<std::int64_t> peak_memory_bytes;  // resident, of this process
  };
  [[nodiscard]] Load Measure() const;

 private:
  struct Counters {
    bool known = false;
    double busy_ms = 0, steal_ms = 0, own_ms = 0;
  };
  static Counters Now();

  Counters begin_;
  Stopwatch watch_;
};

}  // namespace kvr::experiment
