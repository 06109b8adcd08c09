// kvr compare, baseline and check from the outside.
#include <sstream>

#include "cli_fixture.h"

namespace kvr {
namespace {

namespace fs = std::filesystem;

class CompareCliTest : public CliTest {
 protected:
  // A finished run of the tiny config, in `name`.
  void Sweep(const std::string& name, const std::vector<std::string>& more = {}) {
    if (!fs::exists(folder_.path() / "tiny.json")) WriteConfig(2);
    std::vector<std::string> args = {"sweep", "tiny.json",
                                     "--out", name,
                                     "--set", "models=" + testing::TinyModel("tiny-gpt2").string()};
    args.insert(args.end(), more.begin(), more.end());
    const Result result = Run(args);
    ASSERT_EQ(result.code, 0) << result.err;
  }
  // The run in `name` as `copy`, its first hit changed.
  template <typename F>
  void Change(const std::string& name, const std::string& copy, F change) {
    fs::copy(folder_.path() / name, folder_.path() / copy, fs::copy_options::recursive);
    const fs::path cells = folder_.path() / copy / "cells.jsonl";
    std::istringstream before(ReadFile(cells));
    std::string after;
    bool done = false;
    for (std::string line; std::getline(before, line);) {
      Json cell = Json::parse(line);
      if (!done && cell["outcome"] == "hit" && cell["reuse_depth"] > 1) {
        change(cell);
        done = true;
      }
      after += cell.dump() + "\n";
    }
    ASSERT_TRUE(done);
    WriteAndRename(cells, after);
  }
  Result Exactly(const std::string& base, const std::string& now) {
    return Run({"compare", base, now, "--exact-only"});
  }
};

TEST_F(CompareCliTest, TwoRunsAreAlikeAndALossIsOneAndAnotherConfigIsTwo) {
  Sweep("a");
  Sweep("b");
  const Result same = Exactly("a", "b");
  EXPECT_EQ(same.code, 0) << same.out << same.err;
  EXPECT_NE(same.out.find("54 cells compared exactly: 0 regressions"), std::string::npos);

  Change("b", "token", [](Json& cell) { cell["tokens"][0] = 1; });
  Change("b", "depth",
         [](Json& cell) { cell["reuse_depth"] = cell["reuse_depth"].get<int>() - 1; });
  Change("b", "passes", [](Json& cell) {
    Json& passes = cell["work"]["forward_passes"];
    passes = passes.get<int>() + 1;
  });
  for (const char* what : {"token", "depth", "passes"}) {
    const Result result = Exactly("a", what);
    EXPECT_EQ(result.code, 1) << what;
    EXPECT_NE(result.out.find(what), std::string::npos) << result.out;
    EXPECT_NE(result.err.find("1 regressions in what must be equal"), std::string::npos);
  }
  Sweep("c", {"--set", "match=token"});
  const Result other = Exactly("a", "c");
  EXPECT_EQ(other.code, 2);
  EXPECT_NE(other.err.find("config \"match\""), std::string::npos) << other.err;
  EXPECT_EQ(Exactly("a", "absent").code, 3);
}

TEST_F(CompareCliTest, FormatsAndThresholdsAreCheckedBeforeAnythingIsRead) {
  for (const std::vector<std::string>& bad :
       std::vector<std::vector<std::string>>{{"--format", "csv"},
                                             {"--threshold", "5"},
                                             {"--threshold", "-1%"},
                                             {"--threshold", "nan"},
                                             {"--threshold", "5%%"},
                                             {"--threshold", ""},
                                             {"--threshold", "100%"}}) {
    std::vector<std::string> args = {"compare", "absent", "absent"};
    args.insert(args.end(), bad.begin(), bad.end());
    const Result result = Run(args);
    EXPECT_EQ(result.code, 2) << bad[1];
    EXPECT_NE(result.err.find("expected"), std::string::npos) << result.err;
  }
  for (const std::string good : {"5%", "5 %", "0.05", "0", "0.5%"}) {
    EXPECT_EQ(Run({"compare", "absent", "absent", "--threshold", good}).code, 3) << good;
  }
}

TEST_F(CompareCliTest, ABaselineIsKeptOnceAndChecksTheConfig) {
  Sweep("a");
  EXPECT_EQ(Run({"baseline", "a", "--out", "kept.json"}).code, 0);
  const std::string kept = ReadFile(folder_.path() / "kept.json");
  EXPECT_LT(kept.size(), 20000u);
  const Result again = Run({"baseline", "a", "--out", "kept.json"});
  EXPECT_EQ(again.code, 2);
  EXPECT_NE(again.err.find("--force"), std::string::npos) << again.err;
  EXPECT_EQ(Run({"baseline", "a", "--out", "kept.json", "--force"}).code, 0);
  EXPECT_EQ(ReadFile(folder_.path() / "kept.json"), kept);
  EXPECT_EQ(Exactly("kept.json", "a").code, 0);
  EXPECT_EQ(Exactly("a", "kept.json").code, 0);

  const std::string models = "models=" + testing::TinyModel("tiny-gpt2").string();
  const std::vector<std::string> check = {"check",        "tiny.json", "--against",
                                          "kept.json",    "--set",     models,
                                          "--exact-only", "--format",  "json"};
  const Result passed = Run(check);
  ASSERT_EQ(passed.code, 0) << passed.out << passed.err;
  EXPECT_EQ(Json::parse(passed.out).at("cells"), 54);
  EXPECT_FALSE(fs::exists(folder_.path() / "results"));
  std::vector<std::string> other = check;
  other.insert(other.end(), {"--set", "max_new_tokens=3", "--out", "never"});
  const Result refused = Run(other);
  EXPECT_EQ(refused.code, 2);
  EXPECT_NE(refused.err.find("max_new_tokens"), std::string::npos) << refused.err;
  EXPECT_FALSE(fs::exists(folder_.path() / "never"));

  // One token of what was kept is another now.
  Json changed = Json::parse(kept);
  changed["outputs"][0][0] = 1;
  WriteAndRename(folder_.path() / "kept.json", changed.dump());
  EXPECT_EQ(Run(check).code, 1);
  WriteAndRename(folder_.path() / "kept.json", kept.substr(0, kept.size() / 2));
  EXPECT_EQ(Run(check).code, 3);
}

TEST_F(CompareCliTest, NoBaselineIsMadeOfAPartOfARun) {
  Sweep("a");
  Json run = Json::parse(ReadFile(folder_.path() / "a" / "run.json"));
  run["finished"] = nullptr;
  WriteAndRename(folder_.path() / "a" / "run.json", run.dump());
  const Result result = Run({"baseline", "a", "--out", "kept.json"});
  EXPECT_EQ(result.code, 2);
  EXPECT_NE(result.err.find("not finished"), std::string::npos) << result.err;
  EXPECT_FALSE(fs::exists(folder_.path() / "kept.json"));
}

}  // namespace
}  // namespace kvr
