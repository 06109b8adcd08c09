#include "kvr/experiment/machine_facts.h"

#include <gtest/gtest.h>

#include "kvr/base/file.h"
#include "testing.h"

namespace kvr::experiment {
namespace {

namespace fs = std::filesystem;

class MachineFactsTest : public ::testing::Test {
 protected:
  void Say(const std::string& path, const std::string& text) {
    fs::create_directories((root_.path() / path).parent_path());
    WriteAndRename(root_.path() / path, text + "\n");
  }
  void SayCache(int index, const char* level, const char* type, const char* size) {
    const std::string folder =
        "sys/devices/system/cpu/cpu0/cache/index" + std::to_string(index) + "/";
    Say(folder + "level", level);
    Say(folder + "type", type);
    if (size != nullptr) Say(folder + "size", size);
  }
  Json Describe() const { return DescribeMachine(root_.path()); }

  testing::TempFolder root_;
};

TEST_F(MachineFactsTest, WhatTheSystemDoesNotTellIsNull) {
  EXPECT_EQ(Describe(),
            (Json{{"caches", nullptr}, {"governor", nullptr}, {"cgroup_cpus", nullptr}}));
}

TEST_F(MachineFactsTest, CachesAreNamedByLevelAndKindInBytes) {
  SayCache(0, "1", "Data", "48K");
  SayCache(1, "1", "Instruction", "32K");
  SayCache(2, "2", "Unified", "2M");
  SayCache(3, "3", "Unified", "107520K");
  EXPECT_EQ(Describe().at("caches"),
            (Json{{"L1d", 48 << 10}, {"L1i", 32 << 10}, {"L2", 2 << 20}, {"L3", 107520 << 10}}));
}

TEST_F(MachineFactsTest, ASizeThatIsNoneIsLeftOut) {
  SayCache(0, "1", "Data", "many");
  SayCache(1, "2", "Unified", nullptr);
  SayCache(2, "3", "Unified", "-1K");
  EXPECT_EQ(Describe().at("caches"), nullptr);
  SayCache(2, "3", "Unified", "4096");
  EXPECT_EQ(Describe().at("caches"), (Json{{"L3", 4096}}));
}

TEST_F(MachineFactsTest, GovernorsOfAllCpusAreNamedOnce) {
  for (const char* cpu : {"cpu0", "cpu1", "cpu2"}) {
    Say(std::string("sys/devices/system/cpu/") + cpu + "/cpufreq/scaling_governor",
        cpu == std::string("cpu1") ? "performance" : "powersave");
  }
  EXPECT_EQ(Describe().at("governor"), "performance, powersave");
}

TEST_F(MachineFactsTest, TheControlGroupsQuotaIsInCpus) {
  Say("proc/self/cgroup", "0::/box");
  Say("sys/fs/cgroup/box/cpu.max", "150000 100000");
  EXPECT_EQ(Describe().at("cgroup_cpus"), 1.5);
}

}  // namespace
}  // namespace kvr::experiment
