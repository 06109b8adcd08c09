// kvr sweep --shard, --dry-run and kvr merge from the outside.
#include <gtest/gtest.h>
#include <stdlib.h>

#include <map>
#include <set>
#include <sstream>

#include "cli_fixture.h"
#include "kvr/base/file.h"
#include "kvr/base/json.h"
#include "testing.h"

namespace kvr {
namespace {

namespace fs = std::filesystem;

class ShardCliTest : public CliTest {
 protected:
  std::vector<Json> Cells(const std::string& run) const {
    std::vector<Json> cells;
    std::istringstream lines(ReadFile(folder_.path() / run / "cells.jsonl"));
    for (std::string line; std::getline(lines, line);) cells.push_back(Json::parse(line));
    return cells;
  }
  Json Description(const std::string& run) const {
    return ReadJsonFile(folder_.path() / run / "run.json");
  }

  // What is the same on every machine, of all cells whatever their order.
  std::multiset<std::string> Same(const std::string& run) const {
    std::multiset<std::string> same;
    for (const Json& cell : Cells(run)) {
      Json kept;
      for (const auto& [field, value] : cell.items()) {
        const bool own =
            field.ends_with("_ms") || field == "page_cache" || field == "peak_memory_bytes";
        if (!own) kept[field] = value;
      }
      same.insert(kept.dump());
    }
    return same;
  }
};

TEST_F(ShardCliTest, MergedShardsAreTheRunOfOneMachine) {
  WriteConfig(2);
  ASSERT_EQ(Run({"sweep", "tiny.json", "--baseline", "block", "--out", "whole"}).code, 0);
  for (const std::string index : {"1", "0"}) {
    const Result shard =
        Run({"sweep", "tiny.json", "--shard", index + "/2", "--out", index, "--resume"});
    ASSERT_EQ(shard.code, 0) << shard.err;
  }
  const Result merge = Run({"merge", "1", "0", "--out", "all"});
  ASSERT_EQ(merge.code, 0) << merge.err;
  EXPECT_NE(merge.out.find("1/2  tiny/1"), std::string::npos) << merge.out;
  EXPECT_EQ(Same("all"), Same("whole"));
  EXPECT_NE(Run({"report", "1"}).out.find("the run is shard 1/2"), std::string::npos);
  EXPECT_EQ(Cells("all").size(), 2u * 3 * 2 * (3 + 6));
  EXPECT_EQ(Description("all")["merged"]["shards"][1]["shard"], Description("1")["shard"]);
  EXPECT_EQ(Description("all")["fill"].size(), Description("whole")["fill"].size());
  const Result report = Run({"report", "all"});
  EXPECT_EQ(report.code, 0) << report.err;
  EXPECT_NE(report.out.find("merged of 2 of 2 shards"), std::string::npos) << report.out;
  // A merged run is not gone on with, nor merged into.
  EXPECT_EQ(Run({"sweep", "tiny.json", "--out", "all", "--resume"}).code, 2);
  EXPECT_EQ(Run({"merge", "0", "1", "--out", "all"}).code, 2);
}

TEST_F(ShardCliTest, AMergeRefusesWhatIsNoWhole) {
  WriteConfig(1);
  for (const std::string index : {"0", "1"}) {
    ASSERT_EQ(Run({"sweep", "tiny.json", "--shard", index + "/2", "--out", index}).code, 0);
  }
  ASSERT_EQ(Run({"sweep", "tiny.json", "--set", "seed=3", "--shard", "1/2", "--out", "other"}).code,
            0);
  const Result hole = Run({"merge", "0", "--out", "all"});
  EXPECT_EQ(hole.code, 2);
  EXPECT_NE(hole.err.find("1 of 2 shards are missing: 1"), std::string::npos) << hole.err;
  const Result twice = Run({"merge", "0", "1", "1", "--out", "all"});
  EXPECT_EQ(twice.code, 2);
  EXPECT_NE(twice.err.find("overlap"), std::string::npos) << twice.err;
  const Result mixed = Run({"merge", "0", "other", "--out", "all"});
  EXPECT_EQ(mixed.code, 2);
  EXPECT_NE(mixed.err.find("in config"), std::string::npos) << mixed.err;
  EXPECT_FALSE(fs::exists(folder_.path() / "all"));
  EXPECT_EQ(Run({"merge", "0", "nowhere", "--out", "all"}).code, 3);
  EXPECT_EQ(Run({"merge", "0", "1"}).code, 2);
  const Result allowed = Run({"merge", "0", "--allow-holes", "--out", "part"});
  EXPECT_EQ(allowed.code, 0);
  EXPECT_NE(allowed.err.find("missing"), std::string::npos) << allowed.err;
  const Result report = Run({"report", "part"});
  EXPECT_NE(report.out.find("1 of 2 shards are missing: 1"), std::string::npos) << report.out;
  EXPECT_NE(report.out.find("UNFINISHED"), std::string::npos) << report.out;
  EXPECT_EQ(Run({"merge", "0", "other", "--allow-mixed", "--out", "mixed"}).code, 0);
  EXPECT_NE(Run({"report", "mixed"}).out.find("shards of unlike config were merged"),
            std::string::npos);
}

TEST_F(ShardCliTest, ADryRunIsAManifest) {
  WriteConfig(2);
  const std::vector<std::string> dry = {"sweep", "tiny.json", "--shard", "1/2", "--dry-run"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), dry.begin(), dry.end());
    return Run(more);
  };
  const Result json = with({"--json", "--no-estimate"});
  ASSERT_EQ(json.code, 0) << json.err;
  EXPECT_EQ(with({"--json", "--no-estimate"}).out, json.out);
  const Json manifest = Json::parse(json.out);
  std::map<int, std::set<std::string>> prompts;
  for (const Json& unit : manifest["units"]) {
    for (const Json& prompt : unit["prompts"]) prompts[unit["shard"]].insert(prompt["id"]);
  }
  ASSERT_EQ(manifest["shards"].size(), 2u);
  EXPECT_EQ(manifest["shards"][0]["cells"].get<int>() + manifest["shards"][1]["cells"].get<int>(),
            2 * 3 * 2 * (3 + 6));
  EXPECT_TRUE(manifest["shards"][0]["estimated_s"].is_null());
  // What it says is what is run.
  ASSERT_EQ(Run({"sweep", "tiny.json", "--shard", "1/2", "--out", "r"}).code, 0);
  std::int64_t prompt_tokens = 0, new_tokens = 0;
  for (const Json& cell : Cells("r")) {
    EXPECT_TRUE(prompts[1].contains(cell["prompt_id"]));
    prompt_tokens += cell["prompt_tokens"].get<int>();
    new_tokens += cell["new_tokens"].get<int>();
  }
  EXPECT_EQ(manifest["shards"][1]["cells"], Cells("r").size());
  EXPECT_EQ(manifest["shards"][1]["prompt_tokens"], prompt_tokens);
  EXPECT_EQ(manifest["shards"][1]["new_tokens"], new_tokens);

  const Json timed = Json::parse(with({"--json"}).out);
  EXPECT_GT(timed["shards"][0]["estimated_s"].get<double>(), 0);
  EXPECT_GT(timed["models"][1]["measured_here"]["decode_ms_per_token"].get<double>(), 0);
  const Result text = with({});
  EXPECT_NE(text.out.find("on this machine, one run"), std::string::npos) << text.out;
  EXPECT_FALSE(fs::exists(folder_.path() / "results"));
  EXPECT_EQ(Run({"sweep", "tiny.json", "--json"}).code, 2);
}

TEST_F(ShardCliTest, AutoTakesTheSchedulersWordAndNeverGuesses) {
  WriteConfig(1);
  const std::vector<std::string> dry = {"sweep", "tiny.json", "--dry-run", "--no-estimate",
                                        "--shard"};
  const auto shards = [&](const std::string& shard) {
    std::vector<std::string> args = dry;
    args.push_back(shard);
    return Run(args);
  };
  before_exec_ = [] {
    for (const char* name : {"SLURM_ARRAY_TASK_ID", "JOB_COMPLETION_INDEX"}) ::unsetenv(name);
  };
  EXPECT_EQ(shards("auto").code, 2);
  EXPECT_EQ(shards("4/4").code, 2);
  EXPECT_EQ(Run({"sweep", "tiny.json", "--baseline", "free", "--dry-run"}).code, 2);
  before_exec_ = [] {
    ::unsetenv("JOB_COMPLETION_INDEX");
    ::setenv("SLURM_ARRAY_TASK_ID", "2", 1);
    ::setenv("SLURM_ARRAY_TASK_COUNT", "3", 1);
    ::setenv("SLURM_ARRAY_TASK_MIN", "0", 1);
    ::setenv("SLURM_ARRAY_TASK_MAX", "2", 1);
  };
  EXPECT_NE(shards("auto").out.find("2/3"), std::string::npos);
  before_exec_ = [] {
    ::unsetenv("SLURM_ARRAY_TASK_ID");
    ::setenv("JOB_COMPLETION_INDEX", "1", 1);
  };
  EXPECT_EQ(shards("auto").code, 2);
  EXPECT_EQ(shards("auto/2").code, 0);
  EXPECT_EQ(shards("auto/1").code, 2);
}

}  // namespace
}  // namespace kvr
