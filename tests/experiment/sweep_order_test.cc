// The sweep over a stand-in for the engine: order, resumption, interruption and errors, without any
// model.
#include "sweep_fixture.h"

namespace kvr::experiment {
namespace {

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

}  // namespace
}  // namespace kvr::experiment
