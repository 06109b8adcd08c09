#include "kvr/experiment/workload.h"

#include <gtest/gtest.h>

#include "kvr/base/file.h"
#include "kvr/experiment/config.h"
#include "kvr/experiment/setting_reader.h"
#include "testing.h"

namespace kvr::experiment {
namespace {

// Prompts that count: "n" of them, all of which the cached one begins.
void ReadCounting(SettingReader& reader, const std::filesystem::path&, Config* config) {
  const std::int64_t count = reader.Integer("n", 1, 1, 100);
  config->cache_prompts = {{"begin", "one"}};
  for (std::int64_t i = 0; i < count; ++i) {
    config->test_prompts.push_back({"t" + std::to_string(i), "all", "one " + std::to_string(i)});
  }
}

class WorkloadTest : public ::testing::Test {
 protected:
  Config Read(const Json& changes) {
    Json config = {{"models", "m.pt"}, {"policies", "prefix"}};
    config.update(changes);
    WriteAndRename(folder_.path() / "c.json", config.dump());
    return ReadConfig(folder_.path() / "c.json", {}, workloads_);
  }
  std::string Refusal(const Json& changes) {
    std::string message;
    KVR_EXPECT_ERROR((void)Read(changes), kInvalidInput, message);
    return message;
  }

  testing::TempFolder folder_;
  std::vector<Workload> workloads_{kWorkloads.begin(), kWorkloads.end()};
};

TEST_F(WorkloadTest, AddingOneWorkloadIsOneFileAndOneLine) {
  workloads_.push_back({"counting", ReadCounting});
  const Config config = Read({{"workload", "counting"}, {"n", 3}});
  EXPECT_EQ(config.test_prompts.size(), 3u);
  EXPECT_EQ(config.cache_prompts.at(0).id, "begin");
  EXPECT_NE(Refusal({{"workload", "conting"}}).find("did you mean \"counting\"?"),
            std::string::npos);
}

TEST_F(WorkloadTest, ASettingOfAnotherWorkloadIsRefused) {
  workloads_.push_back({"counting", ReadCounting});
  const Json prompts = {{{"id", "a"}, {"text", "b"}}};
  EXPECT_NE(Refusal({{"workload", "counting"}, {"test_prompts", prompts}}).find("test_prompts"),
            std::string::npos);
  EXPECT_NE(Refusal({{"cache_prompts", prompts}, {"test_prompts", prompts}, {"n", 3}}).find("/n"),
            std::string::npos);
}

TEST_F(WorkloadTest, PairsIsWhatAConfigWithoutAWorkloadHas) {
  const Json prompts = {{{"id", "a"}, {"text", "b"}}};
  const Json pairs = {{"cache_prompts", prompts}, {"test_prompts", prompts}};
  EXPECT_EQ(Read(pairs).test_prompts.size(), 1u);
  Json named = pairs;
  named["workload"] = "pairs";
  EXPECT_EQ(Read(named).test_prompts.size(), 1u);
}

}  // namespace
}  // namespace kvr::experiment
