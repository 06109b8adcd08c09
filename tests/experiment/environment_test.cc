#include "kvr/experiment/environment.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kvr/base/clock.h"
#include "kvr/base/file.h"

namespace kvr::experiment {
namespace {

// Each fact is known or null; what every build and Linux knows is known.
TEST(DescribeEnvironmentTest, TellsOfMachineProgramAndBuild) {
  const Json facts = DescribeEnvironment();
  for (const char* key :
       {"cpu_model",        "instruction_set",  "threads", "cpus",     "usable_cores",
        "cores_limited_by", "libtorch_version", "host",    "kernel",   "memory_bytes",
        "load_average",     "commit",           "dirty",   "version",  "build_type",
        "compiler",         "libraries",        "caches",  "governor", "cgroup_cpus"}) {
    ASSERT_TRUE(facts.contains(key)) << key;
    EXPECT_NE(facts.at(key), "unknown") << key;
    EXPECT_NE(facts.at(key), "") << key;
  }
  // What is written is what the document has.
  const std::string document =
      ReadFile(std::filesystem::path(KVR_SOURCE) / "docs" / "results_format.md");
  for (const auto& [key, value] : facts.items()) {
    EXPECT_NE(document.find("`" + key + "`"), std::string::npos) << key;
  }
  EXPECT_GT(facts.at("memory_bytes"), 1 << 20);
  EXPECT_GE(facts.at("cpus"), facts.at("usable_cores"));
  EXPECT_FALSE(facts.at("compiler").at("name").is_null());
  for (const char* library :
       {"libtorch", "sentencepiece", "nlohmann_json", "fmt", "spdlog", "cli11"}) {
    const std::string version = facts.at("libraries").at(library);
    EXPECT_NE(version.find('.'), std::string::npos) << library << version;
  }
  if (!facts.at("commit").is_null()) {
    const std::string commit = facts.at("commit");
    EXPECT_EQ(facts.at("dirty"), commit.ends_with("-dirty"));
    EXPECT_NE(VersionAndCommit().find(commit), std::string::npos);
  }
}

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
