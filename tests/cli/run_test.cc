// kvr run from the outside.
#include <gtest/gtest.h>

#include <sstream>

#include "cli_fixture.h"
#include "kvr/base/file.h"
#include "kvr/base/json.h"
#include "testing.h"

namespace kvr {
namespace {

TEST_F(CliTest, ACachedPromptIsReusedAndTheOutputIsTheSame) {
  // Longer than a block in any vocabulary.
  const std::string cached = "ZQXJ KVWB YPFG MLTR HDNC BGWQ: the harbour master";
  ASSERT_EQ(RunTiny({"cache", "add", cached}).code, 0);
  const Result result =
      RunTiny({"run", cached + " writes", "--json", "-n", "5", "--ignore-eos", "--match", "block"});
  ASSERT_EQ(result.code, 0) << result.err;
  const Json json = Json::parse(result.out);
  EXPECT_EQ(json["arms"][1]["outcome"], "hit");
  EXPECT_EQ(json["arms"][1]["reuse_depth"].get<int>() % 16, 0);
  EXPECT_GT(json["arms"][1]["reuse_depth"].get<int>(), 0);
  EXPECT_EQ(json["fidelity"]["exact"], true);
  EXPECT_EQ(json["fidelity"]["max_abs_logit_diff"], 0.0);
  EXPECT_EQ(json["arms"][0]["tokens"], json["arms"][1]["tokens"]);
  const Result table = RunTiny({"run", "The harbour master writes", "-n", "3", "--ignore-eos"});
  EXPECT_NE(table.out.find("nothing recycled: no cached prompt"), std::string::npos) << table.out;
}

TEST_F(CliTest, ABatchPrintsEachAnswerAndReusesByEmbedding) {
  WriteAndRename(folder_.path() / "add.txt", "The harbour master writes every ship into");
  ASSERT_EQ(RunTiny({"cache", "add", "--file", "add.txt"}).code, 0);
  WriteAndRename(folder_.path() / "batch.jsonl",
                 "{\"id\":\"a\",\"text\":\"The harbour master writes every ship into a book\"}\n"
                 "{\"id\":\"b\",\"text\":\"Nothing like it\"}\n");
  const std::vector<std::string> args = {"run",      "--batch",     "batch.jsonl",
                                         "--policy", "embedding",   "--max-new-tokens",
                                         "4",        "--ignore-eos"};
  const Result text = RunTiny(args);
  ASSERT_EQ(text.code, 0) << text.err;
  std::vector<std::string> json_args = args;
  json_args.push_back("--json");
  const Result json = RunTiny(json_args);
  std::istringstream lines(json.out);
  std::string line;
  ASSERT_TRUE(std::getline(lines, line)) << json.err;
  const Json a = Json::parse(line);
  EXPECT_GT(a["arms"][1]["reuse_depth"], 0);
  EXPECT_TRUE(a["fidelity"]["exact"]);
  for (const Json& arm : a["arms"]) {
    EXPECT_NE(text.out.find(arm["text"].get<std::string>()), std::string::npos) << text.out;
  }
  ASSERT_TRUE(std::getline(lines, line));
  EXPECT_EQ(Json::parse(line)["arms"][1]["outcome"], "miss");
}

TEST_F(CliTest, APromptTooLongIsRefusedOrCut) {
  std::string text;
  for (int i = 0; i < 2000; ++i) text += "ships ";
  const Result refused = RunTiny({"run", "-", "--max-new-tokens", "4"}, text);
  EXPECT_EQ(refused.code, 2);
  EXPECT_NE(refused.err.find("--truncate left"), std::string::npos) << refused.err;
  const Result cut =
      RunTiny({"run", "-", "--max-new-tokens", "4", "--truncate", "left", "--json"}, text);
  ASSERT_EQ(cut.code, 0) << cut.err;
  EXPECT_GT(Json::parse(cut.out)["truncated_tokens"], 0);
}

TEST_F(CliTest, ACodecHasItsOwnCacheAndIsShown) {
  const std::string cached = "ZQXJ KVWB YPFG MLTR HDNC BGWQ: the harbour master";
  const Result added = RunTiny({"cache", "add", cached, "--codec", "int8"});
  ASSERT_EQ(added.code, 0) << added.err;
  const Json entries = Json::parse(Run({"cache", "ls", "--json"}).out);
  ASSERT_EQ(entries.size(), 1u);
  EXPECT_EQ(entries[0]["codec"], "int8");
  EXPECT_NE(Run({"cache", "ls"}).out.find(", codec int8, "), std::string::npos);
  EXPECT_EQ(Run({"cache", "verify"}).code, 0);
  const auto run = [&](const std::vector<std::string>& more) {
    std::vector<std::string> args = {"run", cached + " writes", "--json", "-n",
                                     "3",   "--ignore-eos"};
    args.insert(args.end(), more.begin(), more.end());
    const Result result = RunTiny(args);
    EXPECT_EQ(result.code, 0) << result.err;
    return Json::parse(result.out);
  };
  const Json exact = run({});
  EXPECT_EQ(exact["codec"], "fp32");
  EXPECT_EQ(exact["arms"][1]["outcome"], "miss");
  const Json lossy = run({"--codec", "int8"});
  EXPECT_EQ(lossy["codec"], "int8");
  EXPECT_EQ(lossy["arms"][1]["outcome"], "hit");
  EXPECT_EQ(lossy["arms"][1]["exact_claimed"], false);
  EXPECT_EQ(lossy["fidelity"]["exact"], false);
  EXPECT_EQ(Run({"run", "x", "--codec", "int4"}).code, 2);
  EXPECT_EQ(Run({"cache", "add", "x", "--codec", "raw"}).code, 2);
}

TEST_F(CliTest, AnotherModelsCacheIsNeverFound) {
  const std::string prompt = "The harbour master writes every ship into";
  ASSERT_EQ(RunTiny({"cache", "add", prompt}).code, 0);
  const Result other = Run({"run", prompt + " a book", "--json", "-n", "2", "--arm", "recycled",
                            "--block-tokens", "16", "--model", testing::TinyModel("tiny-llama")});
  ASSERT_EQ(other.code, 0) << other.err;
  EXPECT_NE(other.err.find("can't be used"), std::string::npos) << other.err;
  EXPECT_EQ(Json::parse(other.out)["arms"][0]["outcome"], "miss");
  EXPECT_EQ(Json::parse(other.out)["arms"][0]["limited_by"], "no_candidate");
}

TEST_F(CliTest, SavingARunLetsItsNextTurnReuseIt) {
  const Result first = RunTiny({"run", "The harbour master", "-n", "6", "--ignore-eos", "--save",
                                "--json", "--arm", "baseline"});
  ASSERT_EQ(first.code, 0) << first.err;
  const Json json = Json::parse(first.out);
  EXPECT_GT(json["save"]["tokens"], json["prompt_tokens"]);
  EXPECT_GT(json["save"]["save_ms"], 0.0);
  const Result list = Run({"cache", "ls", "--json"});
  EXPECT_EQ(Json::parse(list.out).size(), 1u);
}

}  // namespace
}  // namespace kvr
