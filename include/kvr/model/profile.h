// Where the time of a pass through a network goes, operator by operator.
//
// Thread safety: one profile at a time in a process, of operators that one thread calls (their work
// may be divided among the pool's). Errors: those of `work`. Cost: two readings of the clock for
// each part of an operator; where nothing is profiled, one look at a pointer.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace kvr::model {

struct OperatorTime {
  std::string name;  // "linear 576 -> 960", "packing", "norm", "attend", ...
  std::int64_t calls = 0;
  double ms = 0;
  double flop = 0;  // floating-point operations of products; 0 where that is no measure
};

// What the program's own kernels did while `work` ran, in the order of their first calls; nothing
// where the network runs on torch's.
[[nodiscard]] std::vector<OperatorTime> ProfileOperators(const std::function<void()>& work);

}  // namespace kvr::model
