// kvr sweep and kvr report from the outside.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <array>
#include <chrono>
#include <fstream>
#include <map>
#include <sstream>
#include <thread>

#include "cli_fixture.h"
#include "kvr/base/file.h"
#include "kvr/base/json.h"
#include "testing.h"

namespace kvr {
namespace {

namespace fs = std::filesystem;

TEST_F(CliTest, ASweepMakesARunThatTheReportReads) {
  WriteConfig(2);
  EXPECT_NE(Run({"sweep", "tiny.json", "--dry-run"}).out.find("cells"), std::string::npos);
  const Result other = Run({"sweep", "tiny.json", "--dry-run", "--set", "precisions=int8"});
  EXPECT_EQ(other.code, 3);
  EXPECT_NE(other.err.find("of precision fp32, the config lists it as int8"), std::string::npos)
      << other.err;
  const Result sweep = Run({"sweep", "tiny.json"});
  ASSERT_EQ(sweep.code, 0) << sweep.err;
  const fs::path run = folder_.path() / "results" / "tiny" / "latest";
  // Two models, three prompts, two rounds: baseline, control, null variant, six ways of reuse.
  EXPECT_EQ(CountLines(ReadFile(run / "cells.jsonl")), 2u * 3 * 2 * (3 + 6));
  EXPECT_FALSE(fs::exists(run / "sweep-cache"));
  std::istringstream cells(ReadFile(run / "cells.jsonl"));
  int hits = 0, baselines_first = 0;
  std::string last_prompt;
  for (std::string line; std::getline(cells, line);) {
    const Json cell = Json::parse(line);
    const std::string prompt = cell["model"].get<std::string>() + cell["prompt_id"].dump();
    const bool baseline = cell["arm"] == "baseline";
    // Baselines are compared too, and none has its place in the order.
    if (baseline && cell["exact_claimed"] == true) {
      EXPECT_EQ(cell["fidelity"]["exact"], true) << line;
    }
    if (cell["repetition"] == 0 && prompt != last_prompt) baselines_first += baseline;
    last_prompt = prompt;
    if (cell["outcome"] != "hit" || !cell["exact_claimed"].get<bool>()) continue;
    ++hits;
    EXPECT_EQ(cell["fidelity"]["exact"], true) << line;
  }
  EXPECT_GT(hits, 10);
  EXPECT_LT(baselines_first, 2 * 3);
  for (const char* format : {"table", "markdown", "csv", "latex", "json"}) {
    const Result report = Run({"report", run.string(), "--format", format});
    EXPECT_EQ(report.code, 0) << report.err;
    EXPECT_GT(report.out.size(), 1000u);
  }
  const Result json = Run({"report", run.string(), "--json"});
  EXPECT_TRUE(Json::parse(json.out).is_object());
  EXPECT_EQ(Run({"report", run.string(), "--format", "pdf"}).code, 2);
  // The page and the figures come beside what is printed, which says where they are.
  const fs::path page = run / "report.html", figures = run / "figures";
  const Result shown =
      Run({"report", run.string(), "--html", page.string(), "--figures", figures.string()});
  EXPECT_EQ(shown.code, 0) << shown.err;
  EXPECT_NE(shown.out.find("\npage: " + page.string() + "\n"), std::string::npos);
  EXPECT_NE(shown.out.find("\nfigure: " + (figures / "depth.json").string() + "\n"),
            std::string::npos);
  EXPECT_GT(fs::file_size(page), 800'000u);
  EXPECT_TRUE(Json::parse(ReadFile(figures / "depth.json")).contains("data"));
  EXPECT_TRUE(Json::parse(Run({"report", run.string(), "--json", "--html", page.string()}).out)
                  .is_object());
  EXPECT_EQ(Run({"report", run.string(), "--html", "nowhere/page.html"}).code, 4);
  EXPECT_EQ(Run({"report", "nowhere"}).code, 3);
  // A folder with a run is not written into again unless asked to.
  EXPECT_EQ(Run({"sweep", "tiny.json", "--out", run.string()}).code, 2);
  EXPECT_EQ(Run({"sweep", "tiny.json", "--out", run.string(), "--dry-run"}).code, 2);
}

TEST_F(CliTest, ADryRunFindsWhatAnArchiveDoesNotAllow) {
  WriteConfig(1);
  for (const std::string setting :
       {"device=gpu", "top_p=0", "max_new_tokens=900000", "template=chat"}) {
    const Result result = Run({"sweep", "tiny.json", "--dry-run", "--set", setting});
    EXPECT_EQ(result.code, 2) << setting;
    EXPECT_NE(result.err.find(setting.substr(0, setting.find('='))), std::string::npos)
        << result.err;
  }
  const std::string twice = testing::TinyModel("tiny-gpt2").string();
  const Result result =
      Run({"sweep", "tiny.json", "--dry-run", "--set", "models=" + Json({twice, twice}).dump()});
  EXPECT_EQ(result.code, 2) << result.err;
}

TEST_F(CliTest, ABrokenClaimIsOne) {
  WriteConfig(1);
  ASSERT_EQ(
      Run({"sweep", "tiny.json", "--set", "models=" + testing::TinyModel("tiny-gpt2").string()})
          .code,
      0);
  const fs::path cells = folder_.path() / "results" / "tiny" / "latest" / "cells.jsonl";
  std::string lines;
  std::istringstream before(ReadFile(cells));
  for (std::string line; std::getline(before, line);) {
    Json cell = Json::parse(line);
    if (cell["outcome"] == "hit" && !cell["fidelity"].is_null()) cell["fidelity"]["exact"] = false;
    lines += cell.dump() + "\n";
  }
  WriteAndRename(cells, lines);
  EXPECT_EQ(Run({"report", "results/tiny/latest"}).code, 1);
}

TEST_F(CliTest, ASweepOverCodecsMeasuresTheirDrift) {
  WriteConfig(2);
  const Result sweep = Run({"sweep", "tiny.json", "--set", "codecs=[\"fp32\",\"bf16\",\"int8\"]",
                            "--set", "policies=prefix", "--set", "match=token", "--set",
                            "models=" + testing::TinyModel("tiny-gpt2").string()});
  ASSERT_EQ(sweep.code, 0) << sweep.err;
  const fs::path folder = folder_.path() / "results" / "tiny" / "latest";
  std::istringstream cells(ReadFile(folder / "cells.jsonl"));
  std::map<std::string, int> hits;
  for (std::string line; std::getline(cells, line);) {
    const Json cell = Json::parse(line);
    EXPECT_EQ(cell["codec"].is_null(), cell["policy"] == "off");
    if (cell["outcome"] != "hit") continue;
    ++hits[cell["codec"]];
    if (cell["codec"] != "fp32") {
      EXPECT_EQ(cell["exact_claimed"], false) << line;
    } else if (cell["exact_claimed"].get<bool>()) {
      EXPECT_EQ(cell["fidelity"]["exact"], true) << line;
    }
  }
  EXPECT_EQ(hits, (std::map<std::string, int>{{"bf16", 4}, {"fp32", 4}, {"int8", 4}}));
  const Json run = Json::parse(ReadFile(folder / "run.json"));
  EXPECT_EQ(run["fill"].size(), 3u * 2);  // each codec's store, once
  const Json& model = run["models"][0];
  EXPECT_EQ(model["cache_keys"]["int8"]["codec"], "int8");
  EXPECT_EQ(model["stored_bytes_per_token"]["fp32"], model["kv_bytes_per_token"]);

  const Result report = Run({"report", folder.string(), "--json"});
  ASSERT_EQ(report.code, 0) << report.err;
  const Json tables = Json::parse(report.out)["tables"];
  Json rows;
  for (const Json& table : tables) {
    if (table["name"] == "codecs") rows = table["rows"];
  }
  ASSERT_EQ(rows.size(), 3u);
  for (std::size_t i = 0; i < 3; ++i) {
    const char* const codec = std::array{"fp32", "bf16", "int8"}[i];
    EXPECT_EQ(rows[i]["codec"], codec);
    EXPECT_EQ(rows[i]["stored_bytes_per_token"], model["stored_bytes_per_token"][codec]);
    EXPECT_EQ(rows[i]["hits"], 4);
    EXPECT_EQ(rows[i]["compared"], 4);
    EXPECT_GT(rows[i]["fill_ms"], 0.0);
    EXPECT_GT(rows[i]["restore_median_ms"], 0.0);
  }
  EXPECT_GT(rows[1]["max_abs_logit_diff"], 0.0);
  EXPECT_GT(rows[2]["kl_mean"], 0.0);
  EXPECT_LT(rows[1]["kl_mean"], 0.1);
  for (const char* format : {"table", "markdown", "csv", "latex"}) {
    const std::string text = Run({"report", folder.string(), "--format", format}).out;
    const std::size_t table = text.find("Cache codecs");
    ASSERT_NE(table, std::string::npos) << format;
    EXPECT_NE(text.find("int8", table), std::string::npos) << format;
  }
}

TEST_F(CliTest, AnInterruptedSweepIsResumedAndNothingIsLost) {
  WriteConfig(12);
  const pid_t child = Start({"sweep", "tiny.json", "--out", "r"});
  const fs::path cells = folder_.path() / "r" / "cells.jsonl";
  // Wait for some cells, with a bound.
  for (int i = 0; i < 600 && (!fs::exists(cells) || fs::file_size(cells) < 20000); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  ::kill(child, SIGINT);
  const Result interrupted = Wait(child);
  EXPECT_EQ(interrupted.code, 130) << interrupted.err;
  EXPECT_NE(interrupted.err.find("--resume"), std::string::npos);
  EXPECT_EQ(Run({"report", "r"}).code, 0);
  const std::string before = ReadFile(cells);
  EXPECT_GT(CountLines(before), 0u);
  // As if the process had been killed while it wrote.
  std::ofstream(cells, std::ios::app) << "{\"schema\":1,\"mod";
  const Result resumed = Run({"sweep", "tiny.json", "--out", "r", "--resume"});
  ASSERT_EQ(resumed.code, 0) << resumed.err;
  const std::string after = ReadFile(cells);
  EXPECT_EQ(after.substr(0, before.size()), before);
  EXPECT_EQ(CountLines(after), 2u * 3 * 12 * (3 + 6));
  EXPECT_EQ(Run({"sweep", "tiny.json", "--out", "r", "--resume", "--set", "seed=9"}).code, 2);
  // Resumed once more, a finished run stays as it is: two models' two entries, each filled once.
  EXPECT_EQ(Run({"sweep", "tiny.json", "--out", "r", "--resume"}).code, 0);
  EXPECT_EQ(ReadFile(cells), after);
  EXPECT_EQ(Json::parse(ReadFile(folder_.path() / "r" / "run.json"))["fill"].size(), 4u);
}

TEST_F(CliTest, AConfigsMistakeIsTwoAndNamesItsPlace) {
  WriteConfig(1);
  const Result result = Run({"sweep", "tiny.json", "--set", "polices=prefix"});
  EXPECT_EQ(result.code, 2);
  EXPECT_NE(result.err.find("did you mean \"policies\"?"), std::string::npos) << result.err;
  EXPECT_EQ(Run({"sweep", "absent.json"}).code, 3);
  EXPECT_EQ(Run({"sweep", "tiny.json", "--set", "models=absent.pt"}).code, 3);
  EXPECT_EQ(Run({"sweep", "tiny.json", "--set", "max_new_tokens=5000"}).code, 2);
}

}  // namespace
}  // namespace kvr
