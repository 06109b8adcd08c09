#include "kvr/experiment/environment.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kvr/base/clock.h"

namespace kvr::experiment {
namespace {

TEST(LoadMeterTest, CountsWhatOthersComputeAndNotWhatWeDo) {
  const LoadMeter meter;
  const pid_t child = ::fork();
  if (child == 0) {
    const Stopwatch watch;
    while (watch.ElapsedMs() < 400) {
    }
    ::_exit(0);
  }
  ::waitpid(child, nullptr, 0);
  const LoadMeter::Load load = meter.Measure();
  EXPECT_GE(load.wall_ms, 390);
  if (!load.other_cpu_ms) GTEST_SKIP() << "the system does not tell";
  EXPECT_GE(*load.other_cpu_ms, 100);
  EXPECT_TRUE(load.steal_ms.has_value());
}

}  // namespace
}  // namespace kvr::experiment
