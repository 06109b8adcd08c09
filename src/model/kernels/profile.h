// Private to the kernels: times a part of an operator while a profile is taken (model/profile.h).
//
// Thread safety: for the thread that calls the operators.
#pragma once

#include <chrono>

namespace kvr::model::kernels {

// From its construction to Stop(), or to its end. `inputs` and `outputs` are of linear layers.
class Timed {
 public:
  explicit Timed(const char* name, double flop = 0, int inputs = 0, int outputs = 0)
      : name_(name), flop_(flop), inputs_(inputs), outputs_(outputs) {
    if (Profiling()) start_ = std::chrono::steady_clock::now();
  }
  ~Timed() { Stop(); }
  Timed(const Timed&) = delete;
  Timed& operator=(const Timed&) = delete;

  void Stop();

 private:
  static bool Profiling();

  const char* name_;  // null: stopped
  double flop_;
  int inputs_, outputs_;
  std::chrono::steady_clock::time_point start_;
};

}  // namespace kvr::model::kernels
