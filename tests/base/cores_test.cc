#include "kvr/base/cores.h"

#include <gtest/gtest.h>

#include <fstream>

namespace kvr {
namespace {

namespace fs = std::filesystem;

// A system of two packages with two cores of two hyper-threads each: CPUs 0 to 7, of which n and
// n + 4 are one core.
class CoresTest : public ::testing::Test {
 protected:
  CoresTest()
      : root_(fs::path(::testing::TempDir()) /
              ::testing::UnitTest::GetInstance()->current_test_info()->name()) {
    fs::remove_all(root_);
    std::string text;
    for (int cpu = 0; cpu < 8; ++cpu) {
      text += "processor\t: " + std::to_string(cpu) +
              "\nphysical id\t: " + std::to_string(cpu / 2 % 2) +
              "\ncore id\t\t: " + std::to_string(cpu % 2) + "\n\n";
    }
    Write("proc/cpuinfo", text);
  }
  ~CoresTest() override { fs::remove_all(root_); }

  void Write(const fs::path& path, const std::string& text) {
    fs::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text << "\n";
  }
  [[nodiscard]] std::string Found(const std::set<int>& cpus) const {
    const Cores cores = UsableCores(root_, cpus);
    return std::to_string(cores.usable) + " " + cores.limit;
  }

  const std::set<int> all_ = {0, 1, 2, 3, 4, 5, 6, 7};
  fs::path root_;
};

TEST_F(CoresTest, HyperThreadsOfACoreCountOnce) { EXPECT_EQ(Found(all_), "4 physical cores"); }

TEST_F(CoresTest, OnlyCoresOfTheAffinityMaskCount) {
  EXPECT_EQ(Found({0, 1, 4, 5}), "2 CPU affinity");
  EXPECT_EQ(Found({3, 7}), "1 CPU affinity");
  EXPECT_EQ(Found({0, 1, 2, 7}), "4 physical cores");  // one thread of each
}

TEST_F(CoresTest, TheLeastQuotaOfTheNestedGroupsLimits) {
  Write("proc/self/cgroup", "0::/user/run");
  Write("sys/fs/cgroup/user/run/cpu.max", "max 100000");
  EXPECT_EQ(Found(all_), "4 physical cores");
  Write("sys/fs/cgroup/user/cpu.max", "250000 100000");
  EXPECT_EQ(CpuQuota(root_), 2.5);
  EXPECT_EQ(Found(all_), "2 cgroup quota");
  EXPECT_EQ(Found({0}), "1 CPU affinity");
  Write("sys/fs/cgroup/cpu.max", "50000 100000");
  EXPECT_EQ(Found(all_), "1 cgroup quota");
}

TEST_F(CoresTest, AContainersPathMayBeTheHosts) {
  Write("proc/self/cgroup", "0::/../../docker/0123");
  Write("sys/fs/cgroup/cpu.max", "150000 100000");
  EXPECT_EQ(Found(all_), "1 cgroup quota");
}

TEST_F(CoresTest, GroupsOfTheFirstVersionCountToo) {
  Write("proc/self/cgroup", "4:memory:/a\n3:cpuset:/a\n2:cpu,cpuacct:/a\n0::/");
  Write("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "-1");
  Write("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us", "100000");
  EXPECT_EQ(CpuQuota(root_), std::nullopt);
  Write("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "300000");
  EXPECT_EQ(Found(all_), "3 cgroup quota");
}

TEST_F(CoresTest, WhatCannotBeReadLimitsNothing) {
  Write("proc/self/cgroup", "what is this\n0::/x");
  Write("sys/fs/cgroup/x/cpu.max", "many few");
  EXPECT_EQ(Found(all_), "4 physical cores");
  fs::remove(root_ / "proc/cpuinfo");
  EXPECT_EQ(Found({0, 1, 2}), "3 physical cores");
  EXPECT_EQ(Found({}), "1 physical cores");
}

}  // namespace
}  // namespace kvr
