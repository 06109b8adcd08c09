// The machine's limits, as the bench measures them.
#include "kvr/model/limits.h"

#include <gtest/gtest.h>

#include <csignal>

#include "kvr/base/error.h"
#include "kvr/base/interrupt.h"

namespace kvr::model {
namespace {

template <typename Work>
void ExpectInterrupted(Work&& work) {
  try {
    (void)work();
    ADD_FAILURE() << "went on to its end";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), Error::Kind::kInterrupted) << error.what();
  }
}

// On a busy machine a measurement takes minutes: it looks up between its passes.
TEST(LimitsTest, AnInterruptEndsAMeasurementBetweenItsPasses) {
  CatchInterrupts();
  std::raise(SIGTERM);
  ExpectInterrupted([] { return MeasureReadBandwidth(); });
  ExpectInterrupted([] { return MeasureCopyBandwidth(); });
  ExpectInterrupted([] { return MeasureGemmRate({{64, 64}}, 4); });
  ForgetInterrupt();
  std::signal(SIGINT, SIG_DFL);
  std::signal(SIGTERM, SIG_DFL);
}

}  // namespace
}  // namespace kvr::model
