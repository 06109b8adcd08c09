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

TEST(LoadMeterTest, ThePeakIsThatOfItsOwnTime) {
  constexpr std::size_t kMany = std::size_t{256} << 20, kFew = std::size_t{16} << 20;
  const auto touch = [](std::size_t bytes) {
    const LoadMeter meter;
    std::vector<char> memory(bytes, 1);
    EXPECT_EQ(memory.back(), 1);
    return meter.Measure().peak_memory_bytes;
  };
  const auto many = touch(kMany), few = touch(kFew);
  if (!many || !few) GTEST_SKIP() << "the system does not tell";
  EXPECT_GE(*many, *few + std::int64_t{kMany} / 2);
}

}  // namespace
}  // namespace kvr::experiment
