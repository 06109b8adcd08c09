#include "profile.h"

#include <algorithm>
#include <utility>

#include "kvr/model/profile.h"

namespace kvr::model {

namespace {

std::vector<OperatorTime>* current = nullptr;

}  // namespace

namespace kernels {

bool Timed::Profiling() { return current != nullptr; }

void Timed::Stop() {
  const char* const name = std::exchange(name_, nullptr);
  if (current == nullptr || name == nullptr) return;
  const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start_;
  std::string full = name;
  if (inputs_ > 0) full += " " + std::to_string(inputs_) + " -> " + std::to_string(outputs_);
  auto at = std::ranges::find(*current, full, &OperatorTime::name);
  if (at == current->end()) at = current->insert(at, {.name = full});
  ++at->calls;
  at->ms += took.count();
  at->flop += flop_;
}

}  // namespace kernels

std::vector<OperatorTime> ProfileOperators(const std::function<void()>& work) {
  std::vector<OperatorTime> found;
  struct Reset {
    ~Reset() { current = nullptr; }
  } reset;
  current = &found;
  work();
  return found;
}

}  // namespace kvr::model
