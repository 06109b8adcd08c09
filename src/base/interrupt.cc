#include "kvr/base/interrupt.h"

#include <csignal>
#include <cstdlib>

#include "kvr/base/error.h"

namespace kvr {

namespace {

volatile std::sig_atomic_t interrupted = 0;

void OnSignal(int) {
  if (interrupted != 0) std::_Exit(130);
  interrupted = 1;
}

}  // namespace

void CatchInterrupts() {
  struct sigaction action {};
  action.sa_handler = OnSignal;
  action.sa_flags = SA_RESTART;
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
}

bool Interrupted() { return interrupted != 0; }

void ForgetInterrupt() { interrupted = 0; }

void ThrowIfInterrupted() {
  if (Interrupted()) throw Error(Error::Kind::kInterrupted, "interrupted");
}

}  // namespace kvr
