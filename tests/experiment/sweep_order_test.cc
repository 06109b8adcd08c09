// The sweep over a stand-in for the engine: order, resumption, interruption and errors, without any
// model.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "kvr/base/file.h"
#include "kvr/experiment/sweep.h"
#include "kvr/record/merge.h"
#include "kvr/record/run.h"
#include "testing.h"

namespace kvr::experiment {
namespace {

namespace fs = std::filesystem;

// Notes what it is asked for, and does as told at a given call.
class FakeExecutor : public Executor {
 public:
  Json Environment() override {
    Json environment;
    for (const char* field :
         {"cpu_model", "instruction_set", "threads", "libtorch_version", "commit"}) {
      environment[field] = "fake";
    }
    return environment;
  }
  record::ModelInfo Load(const ModelChoice& choice, const Progress& progress) override {
    Note("load " + choice.path);
    progress("loading " + choice.path);
    return {.name = choice.path, .precision = "fp32", .fingerprint = fingerprint};
  }
  std::vector<std::size_t> PromptTokens() const override { return {4, 5}; }
  std::optional<std::string> ParentOf(std::size_t) const override { return "p"; }
  std::string CacheName(cache::Codec) override { return std::string(64, 'a'); }
  void OpenCache(const fs::path& folder, cache::Codec codec) override {
    Note(std::string("open ") + cache::ToString(codec));
    fs::create_directories(folder / CacheName(codec));
  }
  std::optional<record::Fill> Fill(std::size_t cached, cache::Codec codec, bool recorded) override {
    Note("fill " + std::to_string(cached) + (recorded ? " again" : ""));
    if (recorded) return std::nullopt;
    return record::Fill{
        .model = "m", .precision = "fp32", .entry = "p", .codec = cache::ToString(codec)};
  }
  void Freeze(cache::Codec) override { Note("freeze"); }
  double TtftMs(std::size_t, int free_tokens) override {
    Note("ttft");
    return free_tokens == 0 ? 2 : 1;
  }
  void WarmUp(const Step&, int) override { Note("warm up"); }
  void Run(const Step& step, int round, int free_tokens, record::Cell* cell) override {
    Note("run");
    EXPECT_EQ(free_tokens, 5);
    ran.emplace_back(cell->prompt_id, round);
    cell->outcome = step.plan.arm == engine::Arm::kBaseline || cell->is_null() ? "off" : "miss";
    cell->prompt_tokens = 4;
    if (ttft_ms) cell->ttft_ms = ttft_ms(*cell);
    cell->tokens = {1};
    cell->new_tokens = 1;
  }

  void Unload() noexcept override { calls.push_back("unload"); }

  std::string fingerprint = "f";
  std::vector<std::string> calls;
  std::vector<std::pair<std::string, int>> ran;
  std::function<void(const std::string& call)> on_call;
  std::function<double(const record::Cell& cell)> ttft_ms;

 private:
  void Note(const std::string& call) {
    calls.push_back(call);
    if (on_call) on_call(call);
  }
};

class SweepOrderTest : public ::testing::Test {
 protected:
  SweepOrderTest() {
    config_.name = "fake";
    config_.json = {{"name", "fake"}};
    config_.models = {{"m", ""}};
    config_.cache_prompts = {{"p", "text"}};
    config_.test_prompts = {{"t", "g", "text"}, {"u", "g", "text"}};
    config_.codecs = {cache::Codec::kFp32};
    config_.reuses = {{.policy = engine::Policy::kPrefix, .match = cache::Match::kToken}};
    config_.repetitions = 3;
    config_.warmups = 1;
  }

  fs::path folder() const { return root_.path() / "r"; }
  void Sweep(bool resume = false) {
    RunSweep(config_, {.folder = folder(), .resume = resume}, fake_);
  }
  record::Run Read() const { return record::ReadRun(folder()); }

  // Stops at the call number `at` (from 1) that begins with `call`.
  void StopAt(const std::string& call, int at, Error::Kind kind = Error::Kind::kInterrupted) {
    fake_.on_call = [=, seen = 0](const std::string& name) mutable {
      if (name.starts_with(call) && ++seen == at) throw Error(kind, "stopped at " + name);
    };
  }

  testing::TempFolder root_;
  Config config_;
  FakeExecutor fake_;
};

TEST_F(SweepOrderTest, TheCacheIsFilledAndFrozenBeforeAnythingIsMeasured) {
  Sweep();
  std::vector<std::string> order = fake_.calls;
  order.erase(std::unique(order.begin(), order.end()), order.end());
  EXPECT_EQ(order, (std::vector<std::string>{"load m", "open fp32", "fill 0", "freeze", "ttft",
                                             "warm up", "run", "unload"}));
  EXPECT_EQ(std::count(fake_.calls.begin(), fake_.calls.end(), "warm up"), 4);
}

TEST_F(SweepOrderTest, ARepetitionOfAllPromptsEndsBeforeTheNextBegins) {
  Sweep();
  ASSERT_EQ(fake_.ran.size(), 3u * 2 * 4);
  for (std::size_t i = 0; i < fake_.ran.size(); ++i) {
    EXPECT_EQ(fake_.ran[i].second, static_cast<int>(i / 8));
    EXPECT_EQ(fake_.ran[i].first, fake_.ran[i - i % 4].first);
  }
  const record::Run run = Read();
  EXPECT_TRUE(run.finished);
  EXPECT_EQ(run.cells.size(), 24u);
  EXPECT_EQ(run.models.at(0).baseline_schedule, "free");
  EXPECT_EQ(run.fill.size(), 1u);
}

// Wherever it is stopped, what is resumed has each cell once, in the order of a run in one go.
TEST_F(SweepOrderTest, ResumesWhereverItWasStopped) {
  Sweep();
  const std::vector<record::Cell> whole = Read().cells;
  const std::vector<std::pair<std::string, int>> stops = {
      {"load", 1},    {"open", 1}, {"fill", 1}, {"freeze", 1}, {"ttft", 3},
      {"warm up", 3}, {"run", 1},  {"run", 2},  {"run", 13},   {"run", 24}};
  for (const auto& [call, at] : stops) {
    fs::remove_all(folder());
    StopAt(call, at);
    EXPECT_THROW(Sweep(), Error);
    EXPECT_FALSE(Read().finished) << call;
    EXPECT_EQ(fake_.calls.back(), "unload") << call;
    const std::size_t before = Read().cells.size();
    EXPECT_EQ(before, call == "run" ? static_cast<std::size_t>(at - 1) : 0u);
    fake_.on_call = nullptr;
    fake_.ran.clear();
    Sweep(/*resume=*/true);
    EXPECT_EQ(fake_.ran.size(), whole.size() - before) << call;
    const record::Run run = Read();
    EXPECT_TRUE(run.finished);
    EXPECT_EQ(run.fill.size(), 1u) << call;
    ASSERT_EQ(run.cells.size(), whole.size()) << call;
    for (std::size_t i = 0; i < whole.size(); ++i) {
      EXPECT_EQ(Identity(run.cells[i]), Identity(whole[i])) << call << i;
    }
  }
}

// The recycled cells' times of round `i` are `swing` above or below 50.
std::function<double(const record::Cell&)> Swinging(double swing) {
  return [swing](const record::Cell& cell) {
    if (cell.policy == "off") return 100.0;
    return 50 * (cell.repetition % 2 == 0 ? 1 + swing : 1 - swing);
  };
}

TEST_F(SweepOrderTest, AFixedNumberOfRoundsIsRecordedAsSuch) {
  fake_.ttft_ms = Swinging(0.01);
  Sweep();
  const record::Repetitions rounds = Read().models.at(0).repetitions;
  EXPECT_EQ(rounds.rounds, 3);
  EXPECT_EQ(rounds.stopped_by, "fixed");
  EXPECT_EQ(rounds.wanted_width, std::nullopt);
  EXPECT_GT(rounds.width.value(), 0);
  EXPECT_EQ(rounds.interval_width, std::nullopt);  // two prompts of one parent: no interval
}

TEST_F(SweepOrderTest, RoundsEndWhenTheirNoiseIsSmallEnough) {
  config_.repetitions = 20;
  config_.until_width = 0.05;
  fake_.ttft_ms = Swinging(0);
  Sweep();
  EXPECT_EQ(Read().models.at(0).repetitions.stopped_by, "width");
  EXPECT_EQ(Read().models.at(0).repetitions.rounds, 3);  // the least, though two would do
  EXPECT_EQ(Read().cells.size(), 3u * 2 * 4);

  fs::remove_all(folder());
  fake_.ttft_ms = Swinging(0.02);
  Sweep();
  const record::Repetitions rounds = Read().models.at(0).repetitions;
  EXPECT_EQ(rounds.stopped_by, "width");
  EXPECT_GT(rounds.rounds, 3);
  EXPECT_LT(rounds.rounds, 20);
  EXPECT_LE(rounds.width.value(), 0.05);
  EXPECT_EQ(Read().cells.size(), static_cast<std::size_t>(*rounds.rounds) * 2 * 4);
}

TEST_F(SweepOrderTest, RoundsEndAtTheMostWhereTheNoiseStays) {
  config_.repetitions = 5;
  config_.until_width = 0.05;
  fake_.ttft_ms = Swinging(0.3);
  Sweep();
  const record::Repetitions rounds = Read().models.at(0).repetitions;
  EXPECT_EQ(rounds.stopped_by, "most");
  EXPECT_EQ(rounds.rounds, 5);
  EXPECT_GT(rounds.width.value(), 0.05);
  EXPECT_EQ(rounds.wanted_width, 0.05);
}

// Cells that are of control groups, or of other ways of reuse, do not decide.
TEST_F(SweepOrderTest, OnlyTheFirstWayOfReuseOutsideTheControlGroupsDecides) {
  config_.repetitions = 5;
  config_.until_width = 0.05;
  config_.test_prompts[1].group = "control";
  config_.control_groups = {"control"};
  config_.reuses.push_back({.policy = engine::Policy::kPrefix, .match = cache::Match::kBlock});
  fake_.ttft_ms = [](const record::Cell& cell) {
    const bool decides = cell.workload == "g" && cell.match != "block" && !cell.control;
    return decides ? 50 : Swinging(0.5)(cell) + static_cast<double>(cell.repetition);
  };
  Sweep();
  EXPECT_EQ(Read().models.at(0).repetitions.rounds, 3);
  EXPECT_EQ(Read().models.at(0).repetitions.width, 0);
}

// Stopped in any round, a run that is taken up ends after the same one.
TEST_F(SweepOrderTest, AResumedRunStopsAfterTheSameRound) {
  config_.repetitions = 20;
  config_.until_width = 0.05;
  fake_.ttft_ms = Swinging(0.02);
  Sweep();
  const record::Run whole = Read();
  const std::size_t cells = whole.cells.size();
  for (const std::size_t at : {std::size_t{1}, cells / 2, cells - 3, cells}) {
    fs::remove_all(folder());
    StopAt("run", static_cast<int>(at));
    EXPECT_THROW(Sweep(), Error);
    EXPECT_FALSE(Read().models.at(0).repetitions.rounds);
    fake_.on_call = nullptr;
    Sweep(/*resume=*/true);
    const record::Run run = Read();
    EXPECT_EQ(run.cells.size(), cells) << at;
    EXPECT_EQ(run.models.at(0).repetitions.rounds, whole.models.at(0).repetitions.rounds) << at;
    EXPECT_EQ(run.models.at(0).repetitions.width, whole.models.at(0).repetitions.width) << at;
  }
  fake_.calls.clear();
  Sweep(/*resume=*/true);
  EXPECT_EQ(fake_.calls, std::vector<std::string>{"unload"});  // and is not loaded again
}

// Each model stops on its own, and a run broken off in the second keeps the first's end.
TEST_F(SweepOrderTest, EachModelHasItsOwnRounds) {
  config_.models = {{"m", ""}, {"n", ""}};
  config_.repetitions = 6;
  config_.until_width = 0.05;
  fake_.ttft_ms = [](const record::Cell& cell) {
    return Swinging(cell.model == "m" ? 0 : 0.3)(cell);
  };
  StopAt("run", 3 * 8 + 5);
  EXPECT_THROW(Sweep(), Error);
  fake_.on_call = nullptr;
  Sweep(/*resume=*/true);
  const record::Run run = Read();
  EXPECT_EQ(run.models.at(0).repetitions.rounds, 3);
  EXPECT_EQ(run.models.at(1).repetitions.rounds, 6);
  EXPECT_EQ(run.models.at(1).repetitions.stopped_by, "most");
  EXPECT_EQ(run.cells.size(), (3u + 6) * 2 * 4);
}

TEST_F(SweepOrderTest, AResumedRunKeepsItsBaselineAndItsFill) {
  StopAt("run", 5);
  EXPECT_THROW(Sweep(), Error);
  const record::Run before = Read();
  fake_.on_call = nullptr;
  fake_.calls.clear();
  Sweep(/*resume=*/true);
  EXPECT_EQ(fake_.calls[2], "fill 0 again");
  const record::Run after = Read();
  EXPECT_EQ(after.models.at(0).calibration_free_ms, before.models.at(0).calibration_free_ms);
  EXPECT_EQ(after.started, before.started);
}

TEST_F(SweepOrderTest, AnErrorLosesNoCellThatEnded) {
  StopAt("run", 7, Error::Kind::kIo);
  try {
    Sweep();
    ADD_FAILURE() << "no error came";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), Error::Kind::kIo);
  }
  EXPECT_EQ(Read().cells.size(), 6u);
}

TEST_F(SweepOrderTest, AFinishedRunIsNotLoadedAgain) {
  Sweep();
  fake_.calls.clear();
  // As if it had been long ago.
  Json description = ReadJsonFile(folder() / "run.json");
  description["finished"] = "2026-01-31T12:00:00Z";
  WriteAndRename(folder() / "run.json", description.dump());
  Sweep(/*resume=*/true);
  EXPECT_EQ(fake_.calls, std::vector<std::string>{"unload"});
  EXPECT_EQ(Read().finished, "2026-01-31T12:00:00Z");
}

TEST_F(SweepOrderTest, AnotherArchiveOrConfigIsRefused) {
  StopAt("run", 5);
  EXPECT_THROW(Sweep(), Error);
  fake_.on_call = nullptr;
  fake_.fingerprint = "g";
  std::string message;
  KVR_EXPECT_ERROR(Sweep(/*resume=*/true), kIncompatible, message);
  EXPECT_NE(message.find("another archive of m"), std::string::npos) << message;
  fake_.fingerprint = "f";
  config_.json["repetitions"] = 4;
  KVR_EXPECT_ERROR(Sweep(/*resume=*/true), kInvalidInput, message);
  EXPECT_NE(message.find("another config"), std::string::npos) << message;
}

TEST_F(SweepOrderTest, TheCacheGoesWhenTheRunIsDoneUnlessItIsKept) {
  Sweep();
  EXPECT_FALSE(fs::exists(folder() / "sweep-cache"));
  fs::remove_all(folder());
  RunSweep(config_, {.folder = folder(), .keep_cache = true}, fake_);
  EXPECT_TRUE(fs::exists(folder() / "sweep-cache" / std::string(64, 'a')));
}

// ---- Shards ----

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
