#include "kvr/experiment/shard.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "testing.h"

namespace kvr::experiment {
namespace {

Config ConfigOf(int prompts) {
  Config config;
  for (int i = 0; i < prompts; ++i) {
    config.test_prompts.push_back(
        {"t" + std::to_string(i), "g", std::string(static_cast<std::size_t>(i * i % 97), 'x')});
  }
  config.models = {{"a", ""}, {"b", ""}};
  config.codecs = {cache::Codec::kFp32};
  config.reuses = {{.policy = engine::Policy::kPrefix, .match = cache::Match::kToken}};
  config.repetitions = 2;
  return config;
}

using Variables = std::map<std::string, std::string>;

Shard Parse(const std::string& text, const Variables& variables = {}) {
  return ParseShard(text, [&](const char* name) -> const char* {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  });
}

std::string ShardRefusal(const std::string& text, const Variables& variables = {}) {
  std::string message;
  KVR_EXPECT_ERROR((void)Parse(text, variables), kInvalidInput, message);
  EXPECT_NE(message.find("--shard " + text), std::string::npos) << message;
  return message;
}

Variables Slurm(const char* id, const char* count, const char* least, const char* most) {
  return {{"SLURM_ARRAY_TASK_ID", id},
          {"SLURM_ARRAY_TASK_COUNT", count},
          {"SLURM_ARRAY_TASK_MIN", least},
          {"SLURM_ARRAY_TASK_MAX", most}};
}

TEST(ShardTest, EveryPromptIsInOneShard) {
  for (const int prompts : {1, 2, 7, 50}) {
    const Config config = ConfigOf(prompts);
    for (const int count : {1, 2, 3, 7, 64}) {
      std::vector<int> owners(static_cast<std::size_t>(prompts));
      std::int64_t cells = 0;
      int empty = 0;
      for (int index = 0; index < count; ++index) {
        const Shard shard{index, count};
        const std::vector<bool> mine = PromptsOf(config, shard);
        for (std::size_t i = 0; i < mine.size(); ++i) owners[i] += mine[i] ? 1 : 0;
        const record::ShardInfo info = Describe(config, shard);
        EXPECT_EQ(std::ssize(info.prompts), std::ranges::count(mine, true));
        cells += info.cells;
        empty += info.prompts.empty() ? 1 : 0;
      }
      EXPECT_TRUE(std::ranges::all_of(owners, [](int owner) { return owner == 1; }));
      EXPECT_EQ(cells, 2 * CellsPerModel(config));
      EXPECT_EQ(empty, std::max(0, count - prompts));
    }
  }
}

TEST(ShardTest, OneShardHasAll) {
  const Config config = ConfigOf(5);
  EXPECT_EQ(PromptsOf(config, {}), std::vector<bool>(5, true));
}

TEST(ShardTest, AUnitIsInOneShard) {
  Config config = ConfigOf(20);
  for (std::size_t i = 0; i < 20; ++i) config.test_prompts[i].id = "s" + std::to_string(i % 6);
  std::map<std::string, std::set<int>> shards;
  std::size_t prompts = 0;
  for (const Unit& unit : UnitsOf(config, 4)) {
    for (const std::size_t prompt : unit.prompts) {
      EXPECT_EQ(UnitOf(config.test_prompts[prompt]), unit.name);
      shards[unit.name].insert(unit.shard);
      ++prompts;
    }
  }
  EXPECT_EQ(prompts, 20u);
  EXPECT_EQ(shards.size(), 6u);
  for (const auto& [unit, in] : shards) EXPECT_EQ(in.size(), 1u) << unit;
}

// Who has run shards on other days or machines must be able to rely on these very numbers.
TEST(ShardTest, TheAssignmentIsTheSameEverywhere) {
  Config config = ConfigOf(0);
  for (const int bytes : {10, 500, 20, 30, 400, 40}) {
    config.test_prompts.push_back(
        {"p" + std::to_string(bytes), "g", std::string(static_cast<std::size_t>(bytes), 'x')});
  }
  std::vector<int> shards;
  for (const Unit& unit : UnitsOf(config, 2)) shards.push_back(unit.shard);
  // The largest first, each to where there is least. With the mean's 167 bytes: 667 to the first,
  // 567 and 207 to the second, 197 to the first, 187 to the second, 177 to the first.
  EXPECT_EQ(shards, (std::vector<int>{0, 0, 1, 0, 1, 1}));
  EXPECT_EQ(PromptsOf(config, {0, 2}), (std::vector<bool>{true, true, false, true, false, false}));
}

TEST(ShardTest, ShardsAreOfLikeSize) {
  const Config config = ConfigOf(97);
  std::vector<std::size_t> bytes(4), prompts(4);
  for (const Unit& unit : UnitsOf(config, 4)) {
    for (const std::size_t prompt : unit.prompts) {
      bytes[static_cast<std::size_t>(unit.shard)] += config.test_prompts[prompt].text.size();
      ++prompts[static_cast<std::size_t>(unit.shard)];
    }
  }
  for (const auto& sizes : {bytes, prompts}) {
    const auto [least, most] = std::ranges::minmax(sizes);
    EXPECT_LT(static_cast<double>(most), 1.15 * static_cast<double>(least));
  }
}

TEST(ShardTest, IsGivenAsIndexAndNumber) {
  EXPECT_EQ(Parse("0/1").count, 1);
  EXPECT_EQ(Parse("3/4").index, 3);
  EXPECT_EQ(Parse("999999/1000000").index, 999999);
}

TEST(ShardTest, OddOnesAreRefused) {
  for (const char* text : {"",
                           "/",
                           "0",
                           "1/",
                           "/2",
                           "0/0",
                           "-1/2",
                           "1/-2",
                           "+1/2",
                           "0x1/4",
                           "1.0/2",
                           "1/2/3",
                           " 0/2",
                           "0/2 ",
                           "0 /2",
                           "a/b",
                           "0/1000001",
                           "0/99999999999999999999",
                           "99999999999999999999/2",
                           "Auto",
                           "auto/",
                           "auto/0",
                           "auto/x",
                           "auto0/2"}) {
    (void)ShardRefusal(text, Slurm("0", "4", "0", "3"));
  }
  EXPECT_NE(ShardRefusal("4/4").find("counted from 0 to 3, found 4"), std::string::npos);
  EXPECT_NE(ShardRefusal("5/4").find("counted from 0 to 3, found 5"), std::string::npos);
}

TEST(ShardTest, AutoIsSlurmsArray) {
  const Shard shard = Parse("auto", Slurm("2", "4", "0", "3"));
  EXPECT_EQ(shard.index, 2);
  EXPECT_EQ(shard.count, 4);
  // A part that is sent once more, an array from 1, and one with a step say nothing of the whole.
  for (const Variables& part : {Slurm("3", "1", "3", "3"), Slurm("1", "4", "1", "4"),
                                Slurm("4", "3", "0", "4"), Slurm("0", "1", "", "0")}) {
    EXPECT_NE(ShardRefusal("auto", part).find("SLURM_ARRAY_TASK_MIN") == std::string::npos &&
                  ShardRefusal("auto", part).find("auto/N") == std::string::npos,
              true);
  }
  EXPECT_EQ(Parse("auto/8", Slurm("3", "1", "3", "3")).index, 3);
  EXPECT_NE(ShardRefusal("auto/4", Slurm("4", "4", "1", "4")).find("found 4"), std::string::npos);
}

TEST(ShardTest, AutoIsAKubernetesJobOfSoMany) {
  const Variables job = {{"JOB_COMPLETION_INDEX", "5"}};
  EXPECT_EQ(Parse("auto/8", job).index, 5);
  EXPECT_NE(ShardRefusal("auto", job).find("auto/N"), std::string::npos);
  (void)ShardRefusal("auto/5", job);
  (void)ShardRefusal("auto/8", {{"JOB_COMPLETION_INDEX", "five"}});
}

TEST(ShardTest, AutoIsNeverGuessed) {
  EXPECT_NE(ShardRefusal("auto").find("found neither SLURM_ARRAY_TASK_ID nor JOB_COMPLETION_INDEX"),
            std::string::npos);
  (void)ShardRefusal("auto/4");
  Variables both = Slurm("0", "4", "0", "3");
  both["JOB_COMPLETION_INDEX"] = "1";
  EXPECT_NE(ShardRefusal("auto", both).find("both"), std::string::npos);
  Variables torn = Slurm("0", "4", "0", "3");
  torn.erase("SLURM_ARRAY_TASK_COUNT");
  EXPECT_NE(ShardRefusal("auto", torn).find("SLURM_ARRAY_TASK_COUNT is not set"),
            std::string::npos);
}

}  // namespace
}  // namespace kvr::experiment
