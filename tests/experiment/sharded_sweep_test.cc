// Sharded sweeps over a stand-in for the engine: merged, they are the run of one machine.
#include "sweep_fixture.h"

namespace kvr::experiment {
namespace {

class ShardedSweepTest : public SweepOrderTest {
 protected:
  static constexpr int kShards = 3;

  ShardedSweepTest() {
    for (const char* id : {"v", "w", "x"}) config_.test_prompts.push_back({id, "g", "a text"});
  }

  fs::path ShardFolder(int index) const { return root_.path() / std::to_string(index); }
  void SweepShard(int index, bool resume = false) {
    RunSweep(config_,
             {.folder = ShardFolder(index), .resume = resume, .shard = Shard{index, kShards}},
             fake_);
  }
  void SweepWhole() {
    RunSweep(config_, {.folder = folder(), .baseline = BaselineChoice{}}, fake_);
  }
  std::vector<record::Run> ReadShards() const {
    std::vector<record::Run> shards;
    for (int i = 0; i < kShards; ++i) shards.push_back(record::ReadRun(ShardFolder(i)));
    return shards;
  }
  static std::vector<std::string> Identities(const record::Run& run) {
    std::vector<std::string> names;
    for (const record::Cell& cell : run.cells) names.push_back(Identity(cell));
    return names;
  }
};

TEST_F(ShardedSweepTest, MergedTheyAreTheRunOfOneMachine) {
  SweepWhole();
  const record::Run whole = Read();
  for (int i = 0; i < kShards; ++i) SweepShard(i);
  std::vector<record::Run> shards = ReadShards();
  for (const record::Run& shard : shards) {
    EXPECT_EQ(std::ssize(shard.cells), shard.shard->cells);
    // A shard's cells are the whole run's, in its order, less those of others.
    std::vector<std::string> of_shard;
    for (const record::Cell& cell : whole.cells) {
      const auto& prompts = shard.shard->prompts;
      if (std::ranges::count(prompts, cell.prompt_id) > 0) of_shard.push_back(Identity(cell));
    }
    EXPECT_EQ(Identities(shard), of_shard);
    EXPECT_GT(of_shard.size(), 0u);
  }
  const record::Run merged = record::MergeShards(std::move(shards), {});
  const std::vector<std::string> of_whole = Identities(whole), of_merged = Identities(merged);
  EXPECT_EQ(of_merged.size(), 3u * 5 * 4);
  EXPECT_TRUE(
      std::is_permutation(of_whole.begin(), of_whole.end(), of_merged.begin(), of_merged.end()));
  EXPECT_EQ(merged.prompts, whole.prompts);
  EXPECT_EQ(merged.config, whole.config);
  EXPECT_EQ(merged.fill.size(), whole.fill.size());
  EXPECT_EQ(merged.models.at(0).baseline_schedule, whole.models.at(0).baseline_schedule);
  EXPECT_TRUE(merged.finished);
}

TEST_F(ShardedSweepTest, AShardFillsWarmsUpAndCalibratesAsTheWholeRunDoes) {
  const auto without_cells = [&] {
    std::vector<std::string> calls;
    std::ranges::copy_if(fake_.calls, std::back_inserter(calls),
                         [](const std::string& call) { return call != "run"; });
    fake_.calls.clear();
    return calls;
  };
  SweepWhole();
  const std::vector<std::string> whole = without_cells();
  for (int i = 0; i < kShards; ++i) {
    SweepShard(i);
    EXPECT_EQ(without_cells(), whole) << i;
  }
}

TEST_F(ShardedSweepTest, AShardIsResumedWhereverItWasStopped) {
  for (int i = 0; i < kShards; ++i) SweepShard(i);
  const std::vector<std::string> whole = Identities(ReadShards()[1]);
  for (const int at : {1, 5, static_cast<int>(whole.size())}) {
    fs::remove_all(ShardFolder(1));
    StopAt("run", at);
    EXPECT_THROW(SweepShard(1), Error);
    EXPECT_THROW((void)record::MergeShards(ReadShards(), {}), Error);  // a hole until then
    fake_.on_call = nullptr;
    fake_.ran.clear();
    SweepShard(1, /*resume=*/true);
    EXPECT_EQ(std::ssize(fake_.ran), std::ssize(whole) - at + 1);
    EXPECT_EQ(Identities(ReadShards()[1]), whole);
  }
  fake_.calls.clear();
  SweepShard(1, /*resume=*/true);
  EXPECT_EQ(fake_.calls, std::vector<std::string>{"unload"});
  EXPECT_EQ(record::MergeShards(ReadShards(), {}).cells.size(), 3u * 5 * 4);
}

TEST_F(ShardedSweepTest, AFolderOfAnotherShardOrBaselineIsNotResumed) {
  StopAt("run", 2);
  EXPECT_THROW(SweepShard(1), Error);
  fake_.on_call = nullptr;
  const auto resume = [&](std::optional<Shard> shard, std::optional<BaselineChoice> baseline) {
    RunSweep(config_,
             {.folder = ShardFolder(1), .resume = true, .shard = shard, .baseline = baseline},
             fake_);
  };
  std::string message;
  KVR_EXPECT_ERROR(resume(Shard{2, kShards}, {}), kInvalidInput, message);
  EXPECT_NE(message.find("begun as shard 1/3, this is shard 2/3"), std::string::npos) << message;
  KVR_EXPECT_ERROR(resume(Shard{1, 4}, {}), kInvalidInput, message);
  KVR_EXPECT_ERROR(resume(std::nullopt, {}), kInvalidInput, message);
  EXPECT_NE(message.find("a whole run"), std::string::npos) << message;
  KVR_EXPECT_ERROR(resume(Shard{1, kShards}, BaselineChoice{true, 5}), kInvalidInput, message);
  EXPECT_NE(message.find("another baseline, block"), std::string::npos) << message;
  resume(Shard{1, kShards}, BaselineChoice{});
}

TEST_F(ShardedSweepTest, AGivenBaselineIsTheRunsWhateverTheCalibrationFinds) {
  RunSweep(config_, {.folder = folder(), .shard = Shard{0, 2}, .baseline = BaselineChoice{true, 5}},
           fake_);
  const record::ModelInfo model = Read().models.at(0);
  EXPECT_EQ(model.baseline_schedule, "free");
  EXPECT_EQ(model.free_chunk_tokens, 5);
  EXPECT_TRUE(model.baseline_given);
  SweepShard(0);
  const record::ModelInfo other = record::ReadRun(ShardFolder(0)).models.at(0);
  EXPECT_EQ(other.baseline_schedule, "block");  // the calibration's would be free
  EXPECT_TRUE(other.baseline_given);
  EXPECT_EQ(other.calibration_free_ms.size(), 5u);
}

TEST_F(ShardedSweepTest, AShardWithoutPromptsLoadsNothingAndIsFinished) {
  RunSweep(config_, {.folder = folder(), .shard = Shard{7, 8}}, fake_);
  EXPECT_EQ(fake_.calls, std::vector<std::string>{"unload"});
  const record::Run run = Read();
  EXPECT_TRUE(run.finished);
  EXPECT_EQ(run.shard->cells, 0);
}

}  // namespace
}  // namespace kvr::experiment
