// Shards made by hand: what is merged, what is refused, and what a merged run says of itself.
#include "kvr/record/merge.h"

#include "kvr/record/run_folder.h"
#include "run_fixture.h"
#include "testing.h"

namespace kvr::record {
namespace {

// Four prompts in two shards, a baseline and a recycled cell each.
Run Shard(int index, const std::vector<std::string>& prompts, int count = 2) {
  Run run;
  run.label = "toy/" + std::to_string(index);
  run.name = "toy";
  run.config = {{"name", "toy"}};
  run.prompts = {"t1", "t2", "t3", "t4"};
  run.prompts_sha256 = "digest";
  run.environment = Description()["environment"];
  run.environment["host"] = "node" + std::to_string(index);
  run.models = {{.name = "tiny", .precision = "fp32", .fingerprint = "f"}};
  run.fill = {{.model = "tiny", .precision = "fp32", .entry = "p", .save_ms = index + 1.0}};
  run.started = "2026-01-31T12:0" + std::to_string(index) + ":00Z";
  run.finished = "2026-01-31T12:1" + std::to_string(index) + ":00Z";
  run.shard = {.index = index, .count = count, .prompts = prompts};
  for (const std::string& prompt : prompts) {
    Json baseline = Base(prompt.c_str(), 0, 100), recycled = Recycled(prompt.c_str(), 0, 50, 40);
    baseline["schema"] = recycled["schema"] = 2;
    run.cells.push_back(CellFromJson(baseline, "a test"));
    run.cells.push_back(CellFromJson(recycled, "a test"));
  }
  run.shard->cells = std::ssize(run.cells);
  return run;
}

std::vector<Run> Both() { return {Shard(0, {"t1", "t3"}), Shard(1, {"t2", "t4"})}; }

class MergeTest : public ::testing::Test {
 protected:
  using Run = record::Run;  // not testing::Test::Run
};

// What the shards are refused with.
std::string Refusal(std::vector<Run> shards, Error::Kind kind, const MergeOptions& options = {}) {
  const Error error = ErrorOf([&] { (void)MergeShards(std::move(shards), options); });
  EXPECT_EQ(error.kind(), kind) << error.what();
  return error.what();
}

bool Has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST_F(MergeTest, ItHasTheCellsOfAllShardsWhateverTheirOrder) {
  std::vector<Run> shards = Both();
  const Run merged = MergeShards(shards, {});
  std::reverse(shards.begin(), shards.end());
  EXPECT_EQ(ToJson(MergeShards(shards, {})), ToJson(merged));
  ASSERT_EQ(merged.cells.size(), 8u);
  EXPECT_EQ(merged.cells[0].prompt_id, "t1");
  EXPECT_EQ(merged.cells[7].prompt_id, "t4");
  EXPECT_EQ(merged.started, "2026-01-31T12:00:00Z");
  EXPECT_EQ(merged.finished, "2026-01-31T12:11:00Z");
  EXPECT_EQ(merged.models.size(), 1u);
  ASSERT_EQ(merged.fill.size(), 1u);
  EXPECT_EQ(merged.fill[0].save_ms, 1.0);
  EXPECT_FALSE(merged.shard);
  EXPECT_EQ(merged.environment["host"], "node0; node1");
  EXPECT_EQ(merged.environment["cpu_model"], "Testium 2");
  EXPECT_TRUE(DescribeMerge(merged).empty());
}

TEST_F(MergeTest, WhatIsWrittenIsReadAgain) {
  const testing::TempFolder root;
  const Run merged = MergeShards(Both(), {});
  {
    const RunFolder folder(root.path() / "all");
    folder.Append(merged.cells);
    folder.Write(merged);
  }
  const Run read = ReadRun(root.path() / "all");
  EXPECT_EQ(ToJson(read), ToJson(merged));
  EXPECT_EQ(read.cells.size(), 8u);
  EXPECT_TRUE(read.warnings.empty());
  ASSERT_TRUE(read.merged);
  EXPECT_EQ(read.merged->shards[1].environment["host"], "node1");
  EXPECT_EQ(read.merged->shards[1].shard.prompts, (std::vector<std::string>{"t2", "t4"}));
}

TEST_F(MergeTest, AnOverlapIsAlwaysRefused) {
  const MergeOptions all = {.allow_holes = true, .allow_mixed = true};
  std::vector<Run> twice = Both();
  twice.push_back(twice[0]);
  EXPECT_TRUE(Has(Refusal(twice, Error::Kind::kInvalidInput, all), "shard 0 is in both"));
  EXPECT_TRUE(
      Has(Refusal({Shard(0, {"t1", "t2"}), Shard(1, {"t2"})}, Error::Kind::kInvalidInput, all),
          "prompt t2 is in both"));
  EXPECT_TRUE(Has(Refusal({Shard(0, {"t1"}), Shard(1, {"t2"}, 3)}, Error::Kind::kInvalidInput, all),
                  "unlike numbers of shards"));
  std::vector<Run> parted = Both();
  for (Run& run : parted) run.cells[0].session = "s";
  EXPECT_TRUE(Has(Refusal(parted, Error::Kind::kInvalidInput, all), "session s is in both"));
}

TEST_F(MergeTest, AHoleIsRefusedUnlessAllowedAndThenSaid) {
  std::vector<Run> missing = {Shard(1, {"t2", "t4"})};
  std::vector<Run> unfinished = Both(), lacking = Both();
  unfinished[1].finished.reset();
  lacking[0].cells.pop_back();
  std::vector<Run> forgotten = {Shard(0, {"t1", "t3"}), Shard(1, {"t2"})};
  const std::vector<std::pair<std::vector<Run>, std::string>> cases = {
      {missing, "1 of 2 shards are missing: 0"},
      {unfinished, "shard 1/2 (toy/1) has 4 of 4 cells and is unfinished"},
      {lacking, "shard 0/2 (toy/0) has 3 of 4 cells"},
      {forgotten, "1 prompts are in no shard: t4"}};
  for (const auto& [shards, hole] : cases) {
    EXPECT_TRUE(Has(Refusal(shards, Error::Kind::kInvalidInput), hole)) << hole;
    EXPECT_TRUE(Has(Refusal(shards, Error::Kind::kInvalidInput, {.allow_mixed = true}), hole));
    const Run merged = MergeShards(shards, {.allow_holes = true});
    EXPECT_FALSE(merged.finished) << hole;
    EXPECT_TRUE(Says(DescribeMerge(merged), hole)) << hole;
  }
}

TEST_F(MergeTest, OfAMillionMissingShardsSomeAreNamed) {
  const Run merged = MergeShards({Shard(3, {"t1"}, 1'000'000)}, {.allow_holes = true});
  EXPECT_TRUE(Says(DescribeMerge(merged),
                   "999999 of 1000000 shards are missing: 0, 1, 2, 4, 5, 6, "
                   "7, 8, 9, 10, ..."));
}

TEST_F(MergeTest, AMixtureIsRefusedUnlessAllowedAndThenSaid) {
  struct Case {
    std::function<void(Run&)> change;
    std::string what;
    Error::Kind kind;
  };
  const std::vector<Case> cases = {
      {[](Run& run) { run.config["repetitions"] = 9; }, "config", Error::Kind::kInvalidInput},
      {[](Run& run) { run.prompts_sha256 = "other"; }, "prompts", Error::Kind::kInvalidInput},
      {[](Run& run) { run.environment["commit"] = "other"; }, "commit", Error::Kind::kIncompatible},
      {[](Run& run) { run.environment["libtorch_version"] = "1"; }, "libtorch_version",
       Error::Kind::kIncompatible},
      {[](Run& run) { run.environment["build_type"] = "Debug"; }, "build_type",
       Error::Kind::kIncompatible},
      {[](Run& run) { run.models[0].fingerprint = "g"; }, "tiny (fp32) fingerprint",
       Error::Kind::kIncompatible},
      {[](Run& run) { run.models[0].encoder_fingerprint = "g"; }, "tiny (fp32) encoder_fingerprint",
       Error::Kind::kIncompatible}};
  for (const Case& one : cases) {
    std::vector<Run> shards = Both();
    one.change(shards[1]);
    EXPECT_TRUE(Has(Refusal(shards, one.kind), one.what)) << one.what;
    EXPECT_TRUE(Has(Refusal(shards, one.kind, {.allow_holes = true}), one.what)) << one.what;
    const Run merged = MergeShards(shards, {.allow_mixed = true});
    EXPECT_EQ(merged.merged->mixed, std::vector<std::string>{one.what});
    EXPECT_TRUE(merged.finished);
    EXPECT_TRUE(Says(DescribeMerge(merged), "shards of unlike " + one.what));
  }
}

TEST_F(MergeTest, UnlikeBaselinesAreAlwaysRefused) {
  const MergeOptions all = {.allow_holes = true, .allow_mixed = true};
  std::vector<Run> shards = Both();
  shards[1].models[0].baseline_schedule = "free";
  EXPECT_TRUE(Has(Refusal(shards, Error::Kind::kIncompatible, all), "unlike baselines of tiny"));
  shards[0].models[0].baseline_schedule = "free";
  shards[0].models[0].free_chunk_tokens = 128;
  shards[1].models[0].free_chunk_tokens = 256;
  EXPECT_TRUE(Has(Refusal(shards, Error::Kind::kIncompatible, all), "the same --baseline"));
  // By the schedule no chunk has that length.
  for (Run& run : shards) run.models[0].baseline_schedule = "block";
  EXPECT_EQ(MergeShards(shards, {}).models[0].free_chunk_tokens, std::nullopt);
}

TEST_F(MergeTest, OtherMachinesAreMergedAndNamed) {
  std::vector<Run> shards = Both();
  shards[1].environment["cpu_model"] = "Otherium";
  shards[1].environment["threads"] = 4;
  shards[1].environment["load_average"] = {2.5, 0, 0};
  const Run merged = MergeShards(shards, {});
  EXPECT_EQ(merged.environment["cpu_model"], "Testium 2; Otherium");
  EXPECT_EQ(merged.environment["threads"], Json({2, 4}));
  EXPECT_EQ(merged.environment["load_average"][0], 2.5);
  const std::vector<std::string> lines = DescribeMerge(merged);
  EXPECT_TRUE(Says(lines, "cpu_model (Testium 2, Otherium), threads (2, 4)"));
  EXPECT_TRUE(Says(lines, "never share a cache"));
}

TEST_F(MergeTest, WhatIsNoShardIsRefused) {
  EXPECT_TRUE(Has(Refusal({}, Error::Kind::kInvalidInput), "no shards"));
  std::vector<Run> whole = Both();
  whole[0].shard.reset();
  EXPECT_TRUE(Has(Refusal(whole, Error::Kind::kInvalidInput), "made without --shard"));
  EXPECT_TRUE(Has(Refusal({MergeShards(Both(), {}), Shard(1, {"t2"})}, Error::Kind::kInvalidInput),
                  "it was merged"));
  std::vector<Run> strays = Both();
  strays[0].cells[1].prompt_id = "t4";
  EXPECT_TRUE(Has(Refusal(strays, Error::Kind::kCorrupt), "1 of prompts that are not its own"));
}

TEST_F(MergeTest, AShardWithoutPromptsIsMergedToo) {
  std::vector<Run> shards = {Shard(0, {"t1", "t3"}, 3), Shard(1, {"t2", "t4"}, 3), Shard(2, {}, 3)};
  shards[2].models.clear();
  shards[2].fill.clear();
  EXPECT_EQ(MergeShards(shards, {}).cells.size(), 8u);
  std::rotate(shards.begin(), shards.begin() + 2, shards.end());
  EXPECT_EQ(MergeShards(shards, {}).models.size(), 1u);
}

}  // namespace
}  // namespace kvr::record
