// Sweeps of tiny models: what a run's folder keeps through kills, neighbours and damage, and what a
// round consists of.
#include "kvr/experiment/sweep.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <fstream>
#include <set>

#include "kvr/base/file.h"
#include "kvr/experiment/prompts.h"
#include "kvr/record/run.h"
#include "kvr/record/run_folder.h"
#include "testing.h"

// Counts what is made durable: the program's calls come here in place of the C library's.
static std::atomic<int> synced_cells{0};
extern "C" int fdatasync(int fd) {
  ++synced_cells;
  return static_cast<int>(::syscall(SYS_fdatasync, fd));
}

namespace kvr::experiment {

using namespace record;
namespace {

namespace fs = std::filesystem;
using testing::TempFolder;
using testing::TinyModel;

constexpr const char* kHarbour =
    "the harbour master writes every ship into a book its name cargo and hour";

class SweepTest : public ::testing::Test {
 protected:
  SweepTest() {
    config_ = {
        {"models", TinyModel("tiny-gpt2")},
        {"cache_prompts", {{{"id", "a"}, {"text", kHarbour}}, {{"id", "b"}, {"text", "numbers"}}}},
        {"test_prompts",
         {{{"id", "t"}, {"text", std::string(kHarbour) + " x"}},
          {{"id", "u"}, {"text", "\xe2\x82\xac 9"}}}},
        {"policies", "prefix"},
        {"repetitions", 2},
        {"warmups", 0},
        {"max_new_tokens", {2, 6}},
        {"stop_at_eos", false},
        {"threads", 1},
        {"block_tokens", 16}};
  }

  fs::path folder() const { return root_.path() / "r"; }

  Config Read() const {
    WriteAndRename(root_.path() / "c.json", config_.dump());
    return ReadConfig(root_.path() / "c.json", {});
  }

  void Sweep(SweepOptions options = {}) const {
    const Config config = Read();
    CheckArchives(config);
    if (options.folder.empty()) options.folder = folder();
    RunSweep(config, options);
  }

  void Resume() const { Sweep({.resume = true}); }

  Json Description() const { return ReadJsonFile(folder() / "run.json"); }

  std::vector<std::string> Lines() const {
    std::vector<std::string> lines;
    std::ifstream file(folder() / "cells.jsonl");
    for (std::string line; std::getline(file, line);) lines.push_back(line);
    return lines;
  }

  void WriteLines(const std::vector<std::string>& lines) const {
    std::ofstream file(folder() / "cells.jsonl", std::ios::trunc);
    for (const std::string& line : lines) file << line << "\n";
  }

  // What the sweep, or any other call, is refused with.
  template <typename Call>
  static Error Refusal(const Call& call) {
    try {
      call();
    } catch (const Error& error) {
      return error;
    }
    ADD_FAILURE() << "no error came";
    return InvalidInput("");
  }

  TempFolder root_;
  Json config_;
};

// ---- The folder ----

TEST_F(SweepTest, RemovesTheCacheThatItMadeAndNothingElse) {
  fs::create_directories(folder() / "cache");
  WriteAndRename(folder() / "cache" / "notes.txt", "mine");
  Sweep();
  EXPECT_EQ(ReadFile(folder() / "cache" / "notes.txt"), "mine");
  EXPECT_FALSE(fs::exists(folder() / "sweep-cache"));
}

TEST_F(SweepTest, SomebodyElsesCacheIsRefusedAndLeftAlone) {
  fs::create_directories(folder() / "sweep-cache");
  WriteAndRename(folder() / "sweep-cache" / "notes.txt", "mine");
  const Error error = Refusal([&] { Sweep(); });
  EXPECT_EQ(error.kind(), Error::Kind::kInvalidInput) << error.what();
  EXPECT_EQ(ReadFile(folder() / "sweep-cache" / "notes.txt"), "mine");
}

TEST_F(SweepTest, AForeignFileInItsCacheStays) {
  Sweep({.first_cell = [&] { WriteAndRename(folder() / "sweep-cache" / "notes.txt", "mine"); }});
  EXPECT_EQ(ReadFile(folder() / "sweep-cache" / "notes.txt"), "mine");
  const fs::directory_iterator left(folder() / "sweep-cache");
  EXPECT_EQ(std::distance(begin(left), end(left)), 1);
}

TEST_F(SweepTest, AKeptCacheSurvivesAResumeThatDoesNotAskForIt) {
  Sweep({.keep_cache = true});
  WriteLines({Lines()[0]});
  Resume();
  EXPECT_EQ(Description()["cache"]["kept"], true);
  const std::string name = Description()["cache"]["subfolders"][0];
  EXPECT_TRUE(fs::exists(folder() / "sweep-cache" / name / "key.json"));
}

TEST_F(SweepTest, AFolderInWhichASweepRunsIsRefused) {
  Sweep();
  const UniqueFd other(::open((folder() / "cells.jsonl").c_str(), O_RDONLY));
  ASSERT_EQ(::flock(other.get(), LOCK_EX | LOCK_NB), 0);
  const Error error = Refusal([&] { Resume(); });
  EXPECT_EQ(error.kind(), Error::Kind::kResource) << error.what();
  EXPECT_NE(std::string(error.what()).find("another sweep is running"), std::string::npos);
  EXPECT_EQ(error.exit_code(), 4);
}

TEST_F(SweepTest, IsLockedWhileItRunsAndNotAfter) {
  Error error = InvalidInput("");
  Sweep({.first_cell = [&] { error = Refusal([&] { (void)RunFolder(folder()); }); }});
  EXPECT_EQ(error.kind(), Error::Kind::kResource);
  EXPECT_NO_THROW((void)RunFolder(folder()));
}

TEST_F(SweepTest, CellsWithoutARunAreNotContinued) {
  Sweep();
  const std::vector<std::string> lines = Lines();
  fs::remove(folder() / "run.json");
  EXPECT_EQ(Refusal([&] { Sweep(); }).kind(), Error::Kind::kInvalidInput);
  EXPECT_EQ(Refusal([&] { Resume(); }).kind(), Error::Kind::kInvalidInput);
  EXPECT_EQ(Lines(), lines);
}

// A pipe without a reader would hold an ordinary open for good.
TEST_F(SweepTest, WhatIsNoFileIsRefused) {
  fs::create_directories(folder());
  ASSERT_EQ(::mkfifo((folder() / "cells.jsonl").c_str(), 0600), 0);
  EXPECT_EQ(Refusal([&] { Sweep(); }).kind(), Error::Kind::kIo);
  fs::remove(folder() / "cells.jsonl");
  fs::create_directories(folder() / "cells.jsonl");
  EXPECT_EQ(Refusal([&] { Sweep(); }).kind(), Error::Kind::kIo);
}

TEST_F(SweepTest, ARepeatedLineCountsOnce) {
  Sweep();
  std::vector<std::string> lines = Lines();
  const std::size_t count = lines.size();
  lines.back() = lines.front();  // one twice, and so one missing
  WriteLines(lines);
  const record::Run run = ReadRun(folder());
  EXPECT_EQ(run.cells.size(), count - 1);
  ASSERT_EQ(run.warnings.size(), 1u);
  EXPECT_NE(run.warnings[0].find("1 cells repeat"), std::string::npos) << run.warnings[0];
  Resume();
  EXPECT_EQ(ReadRun(folder()).cells.size(), count);
}

TEST_F(SweepTest, StrayCellsAreLeftOutAndNotResumed) {
  Sweep();
  const std::vector<std::string> good = Lines();
  for (const Json& change : std::vector<Json>{{{"prompt_id", "z"}}, {{"model", "z"}}}) {
    Json stray = Json::parse(good[0]);
    stray.update(change);
    std::vector<std::string> lines = good;
    lines.push_back(stray.dump());
    WriteLines(lines);
    const record::Run run = ReadRun(folder());
    EXPECT_EQ(run.cells.size(), good.size()) << change;
    EXPECT_EQ(run.warnings.size(), 1u) << change;
  }
  // Of the run's prompts, and yet of none of its ways.
  for (const Json& change : std::vector<Json>{{{"prompt_id", "z"}},
                                              {{"repetition", 9}},
                                              {{"policy", "prefix"}},
                                              {{"codec", "int8"}}}) {
    Json stray = Json::parse(good[0]);
    stray.update(change);
    std::vector<std::string> lines = good;
    lines.push_back(stray.dump());
    WriteLines(lines);
    const Error error = Refusal([&] { Resume(); });
    EXPECT_EQ(error.kind(), Error::Kind::kCorrupt) << change << error.what();
  }
}

// As if the process had been killed after an entry was stored and before that was recorded.
TEST_F(SweepTest, AFillRowLostToAKillIsMadeAgain) {
  Sweep({.keep_cache = true});
  Json run = Description();
  const Json first = run["fill"][0];
  run["fill"].erase(0);
  WriteAndRename(folder() / "run.json", run.dump());
  WriteAndRename(folder() / "run.json.tmp-1-2", "half of it");
  WriteLines({Lines()[0]});
  Resume();
  run = Description();
  std::set<std::string> entries;
  for (const Json& fill : run["fill"]) entries.insert(fill["entry"]);
  EXPECT_EQ(entries, (std::set<std::string>{"a", "b"}));
  ASSERT_EQ(run["fill"].size(), 2u);
  const Json again = run["fill"][1];
  for (const char* field : {"entry", "tokens", "bytes", "new_blocks"}) {
    EXPECT_EQ(again[field], first[field]) << field;
  }
  EXPECT_GT(again["prefill_ms"], 0.0);
  EXPECT_FALSE(fs::exists(folder() / "run.json.tmp-1-2"));
}

TEST_F(SweepTest, EachLineIsDurableWhenItsCellEnds) {
  const int before = synced_cells;
  Sweep();
  EXPECT_GE(synced_cells - before, static_cast<int>(Lines().size()));
}

TEST_F(SweepTest, ADamagedDescriptionIsCorruptAndNamed) {
  Sweep();
  const Json good = Description();
  const std::vector<std::pair<const char*, Json>> damage = {{"/schema", "x"},
                                                            {"/config", 5},
                                                            {"/environment", nullptr},
                                                            {"/models", 1},
                                                            {"/models/0", 1},
                                                            {"/models/0/baseline", "block"},
                                                            {"/models/0/baseline/schedule", 3},
                                                            {"/models/0/fingerprint", 3},
                                                            {"/fill", "x"},
                                                            {"/fill/0/entry", 7},
                                                            {"/prompts_sha256", 5},
                                                            {"/prompts", {1}},
                                                            {"/cache", 1},
                                                            {"/cache/kept", "yes"},
                                                            {"/cache/subfolders", {"../../x"}},
                                                            {"/name", 1},
                                                            {"/finished", 4}};
  for (const auto& [place, value] : damage) {
    Json run = good;
    run[Json::json_pointer(place)] = value;
    WriteAndRename(folder() / "run.json", run.dump());
    const Error error = Refusal([&] { Resume(); });
    EXPECT_EQ(error.kind(), Error::Kind::kCorrupt) << place << ": " << error.what();
    EXPECT_NE(std::string(error.what()).find("run.json"), std::string::npos) << error.what();
    const std::string field = Json::json_pointer(place).back();
    if (field == "0") continue;
    EXPECT_NE(std::string(error.what()).find(field), std::string::npos) << error.what();
  }
  for (const char* key : {"config", "environment", "name", "schema"}) {
    Json run = good;
    run.erase(key);
    WriteAndRename(folder() / "run.json", run.dump());
    const Error error = Refusal([&] { Resume(); });
    EXPECT_EQ(error.kind(), Error::Kind::kCorrupt) << key << ": " << error.what();
    EXPECT_NE(std::string(error.what()).find(key), std::string::npos) << error.what();
  }
  for (const char* text : {"", "{", "[]", "null", "\xff"}) {
    WriteAndRename(folder() / "run.json", std::string(text));
    EXPECT_EQ(Refusal([&] { Resume(); }).kind(), Error::Kind::kCorrupt) << text;
  }
}

TEST_F(SweepTest, NothingIsMeasuredBeforeTheFirstCell) {
  int first = 0;
  SweepOptions options = {.first_cell = [&] { ++first; }};
  options.progress = [](const std::string& what, std::int64_t, std::int64_t) {
    if (what.starts_with("loading")) throw Error(Error::Kind::kInterrupted, "stop");
  };
  EXPECT_EQ(Refusal([&] { Sweep(options); }).kind(), Error::Kind::kInterrupted);
  EXPECT_EQ(first, 0);
  options.progress = nullptr;
  options.resume = true;
  Sweep(options);
  EXPECT_EQ(first, 1);
}

// ---- What is checked before anything is loaded ----

TEST_F(SweepTest, ADryRunFindsWhatTheRunWould) {
  const auto refusal = [&](const char* key, const Json& value) {
    const Json before = config_;
    config_[key] = value;
    const Error error = Refusal([&] { CheckArchives(Read()); });
    config_ = before;
    return std::string(error.what());
  };
  std::string longer;
  for (int i = 0; i < 200; ++i) longer += "harbour " + std::to_string(i) + " ";
  const Json prompt = {{{"id", "long"}, {"text", longer}}};
  EXPECT_NE(refusal("test_prompts", prompt).find("test prompt long"), std::string::npos);
  EXPECT_NE(refusal("cache_prompts", prompt).find("cached prompt long"), std::string::npos);
  EXPECT_NE(refusal("block_tokens", 164).find("block_tokens"), std::string::npos);
  EXPECT_NE(refusal("device", "cuda:77").find("cuda:77"), std::string::npos);
  EXPECT_NE(refusal("max_new_tokens", {1, 160}).find("max_new_tokens"), std::string::npos);
  EXPECT_NE(refusal("encoder", "absent.pt").find("absent.pt"), std::string::npos);
  EXPECT_NE(refusal("encoder", TinyModel("tiny-gpt2")).find("encoder"), std::string::npos);
  config_["truncate"] = "left";
  config_["test_prompts"] = prompt;
  EXPECT_NO_THROW(CheckArchives(Read()));
}

// ---- What a round consists of ----

TEST_F(SweepTest, EveryRoundHasABaselineItsControlTheNullVariantAndEachReuse) {
  config_["encoder"] = TinyModel("tiny-bert");
  config_["policies"] = {"embedding", "prefix"};
  config_["candidates"] = {1, 5};
  config_["long_prompts"] = 1;
  Sweep();
  const record::Run run = ReadRun(folder());
  const ModelInfo& model = run.models.at(0);
  EXPECT_EQ(model.calibration_block_ms.size(), 5u);
  EXPECT_EQ(model.calibration_free_ms.size(), 5u);
  EXPECT_GT(model.free_chunk_tokens, 0);
  ASSERT_EQ(run.cells.size(), 2u * 2 * (3 + 3));
  std::map<std::string, int> kinds;
  int long_cells = 0;
  for (const Cell& cell : run.cells) {
    const std::string kind = cell.control     ? "control"
                             : cell.is_null() ? "null"
                             : cell.recycled()
                                 ? cell.policy + std::to_string(cell.candidates.value_or(0))
                                 : "baseline";
    ++kinds[kind + " " + std::to_string(cell.repetition)];
    EXPECT_TRUE(cell.full);
    ASSERT_TRUE(cell.totals_ms && cell.total_ms && cell.wall_ms);
    EXPECT_FALSE(cell.seed);
    EXPECT_EQ(cell.totals_ms->at(2) <= *cell.total_ms, true);
    EXPECT_GE(*cell.wall_ms, *cell.total_ms);
    EXPECT_EQ(cell.totals_ms->contains(6), cell.new_tokens == 6);
    if (cell.new_tokens == 6) {
      ++long_cells;
      EXPECT_EQ(cell.totals_ms->at(6), *cell.total_ms);
      EXPECT_TRUE(!cell.recycled() || cell.is_null() || cell.candidates == 1) << kind;
    }
    if (!cell.recycled() || cell.is_null()) {
      EXPECT_EQ(cell.schedule, model.baseline_schedule);
      EXPECT_EQ(cell.outcome, "off");
      EXPECT_FALSE(cell.match || cell.codec || cell.candidates);
    }
    EXPECT_TRUE(!cell.exact_claimed || (cell.fidelity && cell.fidelity->exact)) << kind;
    EXPECT_EQ(cell.cached_parent, cell.prompt_id == "t" ? std::optional("a") : std::nullopt);
  }
  for (const char* kind : {"baseline", "control", "null", "embedding1", "embedding5", "prefix0"}) {
    for (int round = 0; round < 2; ++round) {
      EXPECT_EQ(kinds[std::string(kind) + " " + std::to_string(round)], 2) << kind;
    }
  }
  EXPECT_EQ(long_cells, 2 * (3 + 1));  // one prompt, the baselines and the first way of reuse
}

TEST_F(SweepTest, SeedsDifferByRepetitionAndCellsOfOneRepetitionShareThem) {
  config_["temperature"] = 5;
  config_["seed"] = 40;
  config_["max_new_tokens"] = 8;
  Sweep();
  std::map<std::pair<std::string, std::int64_t>, std::set<Tokens>> outputs;
  for (const Cell& cell : ReadRun(folder()).cells) {
    EXPECT_EQ(cell.seed, 40u + static_cast<std::uint64_t>(cell.repetition));
    if (cell.exact_claimed) outputs[{cell.prompt_id, cell.repetition}].insert(cell.tokens);
  }
  ASSERT_EQ(outputs.size(), 4u);
  for (const auto& [which, tokens] : outputs) EXPECT_EQ(tokens.size(), 1u) << which.first;
  EXPECT_NE((outputs[{"t", 0}]), (outputs[{"t", 1}]));
}

}  // namespace
}  // namespace kvr::experiment
