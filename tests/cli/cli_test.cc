// The program from the outside: output, errors and exit codes.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <fstream>
#include <map>
#include <sstream>
#include <thread>

#include "cli_fixture.h"
#include "kvr/base/file.h"
#include "kvr/base/json.h"
#include "kvr/experiment/bench_busy.h"
#include "testing.h"

namespace kvr {
namespace {

namespace fs = std::filesystem;

TEST_F(CliTest, HelpAndVersionSucceedAndShowExamples) {
  for (const std::vector<std::string>& command : {std::vector<std::string>{},
                                                  {"run"},
                                                  {"sweep"},
                                                  {"report"},
                                                  {"cache"},
                                                  {"cache", "add"},
                                                  {"cache", "ls"},
                                                  {"cache", "show"},
                                                  {"cache", "rm"},
                                                  {"cache", "verify"},
                                                  {"model"},
                                                  {"model", "info"},
                                                  {"model", "verify"},
                                                  {"bench"},
                                                  {"tokenize"}}) {
    std::vector<std::string> args = command;
    args.push_back("--help");
    const Result result = Run(args);
    EXPECT_EQ(result.code, 0);
    if (command != std::vector<std::string>{"cache"} &&
        command != std::vector<std::string>{"model"}) {
      EXPECT_NE(result.out.find("Example"), std::string::npos) << result.out;
    }
  }
  EXPECT_EQ(Run({"--version"}).code, 0);
}

TEST_F(CliTest, BadUsageIsTwo) {
  EXPECT_EQ(Run({}).code, 2);
  EXPECT_EQ(Run({"rnu"}).code, 2);
  EXPECT_EQ(Run({"run", "x", "--no-such-flag"}).code, 2);
  EXPECT_EQ(Run({"run", ""}).code, 2);
  EXPECT_EQ(Run({"run", "x", "--match", "half"}).code, 2);
  EXPECT_EQ(RunTiny({"run", "x", "--temperature", "-1"}).code, 2);
  EXPECT_EQ(RunTiny({"run", "x", "--max-new-tokens", "0"}).code, 2);
  EXPECT_EQ(RunTiny({"run", "x", "--max-new-tokens", "100000"}).code, 2);
}

TEST_F(CliTest, AMissingOrForeignModelIsThreeAndOneLine) {
  const Result missing = Run({"run", "x", "--model", "absent.pt"});
  EXPECT_EQ(missing.code, 3);
  EXPECT_EQ(CountLines(missing.err), 1u) << missing.err;
  WriteAndRename(folder_.path() / "foreign.pt", "PK not an archive");
  const Result foreign = Run({"run", "x", "--model", "foreign.pt"});
  EXPECT_EQ(foreign.code, 3);
  EXPECT_EQ(foreign.err.find("C++ CapturedTraceback"), std::string::npos) << foreign.err;
  EXPECT_EQ(Run({"run", "x", "--model", testing::TinyModel("tiny-bert")}).code, 3);
}

TEST_F(CliTest, AnUnwritableCacheIsFour) {
  WriteAndRename(folder_.path() / "cache", "a file where a folder should be");
  const Result result = RunTiny({"cache", "add", "A prompt"});
  EXPECT_EQ(result.code, 4) << result.err;
  EXPECT_NE(result.err.find("cache"), std::string::npos);
}

TEST_F(CliTest, AFullOutputIsFour) {
  if (!fs::exists("/dev/full")) GTEST_SKIP() << "/dev/full is missing";
  const pid_t child = ::fork();
  if (child == 0) {
    ::dup2(::open("/dev/full", O_WRONLY), STDOUT_FILENO);
    ::dup2(::open("/dev/null", O_WRONLY), STDERR_FILENO);
    const std::string model = testing::TinyModel("tiny-gpt2");
    ::execl(KVR_BINARY, KVR_BINARY, "tokenize", "-m", model.c_str(), "text", nullptr);
    ::_exit(98);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), 4);
}

TEST_F(CliTest, TokenizeAndDecodeInvertEachOther) {
  const std::string model = testing::TinyModel("tiny-gpt2");
  const std::string text = "The harbour, 42 naïve 🙂 ships\tand\n\nmore  spaces";
  const Result ids = Run({"tokenize", "-m", model, "-", "--json"}, text);
  ASSERT_EQ(ids.code, 0) << ids.err;
  const Result back =
      Run({"tokenize", "-m", model, "--decode", "--json", Json::parse(ids.out)["ids"].dump()});
  EXPECT_EQ(Json::parse(back.out)["text"], text);
  EXPECT_EQ(Run({"tokenize", "-m", model, "--decode", "1 zwei"}).code, 2);
  EXPECT_EQ(Run({"tokenize", "-m", model, "--decode", "999999"}).code, 2);
}

TEST_F(CliTest, InvalidUtf8IsReplacedWithAWarning) {
  const Result result =
      Run({"tokenize", "-m", testing::TinyModel("tiny-gpt2"), "-"}, "caf\xe9 \xff ok");
  EXPECT_EQ(result.code, 0);
  EXPECT_NE(result.err.find("not UTF-8"), std::string::npos) << result.err;
}

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

TEST_F(CliTest, WhatIsNotThereIsTwoAndOneLine) {
  const std::string plain = testing::TinyModel("tiny-random");  // without a chat template
  for (const auto& [option, value] :
       std::map<std::string, std::string>{{"--template", "chat"}, {"--device", "cuda:99"}}) {
    const Result result = Run({"run", "hello", "--model", plain, option, value});
    EXPECT_EQ(result.code, 2) << option;
    EXPECT_EQ(CountLines(result.err), 1U) << result.err;
  }
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

TEST_F(CliTest, CacheListsShowsVerifiesAndRemoves) {
  WriteAndRename(folder_.path() / "p.jsonl",
                 "{\"id\":\"a\",\"text\":\"one prompt\"}\n{\"text\":\"another prompt\"}\n");
  const Result added = RunTiny({"cache", "add", "--jsonl", "p.jsonl", "--json", "a third"});
  ASSERT_EQ(added.code, 0) << added.err;
  EXPECT_EQ(CountLines(added.out), 3u);
  const Json entries = Json::parse(Run({"cache", "ls", "--json"}).out);
  ASSERT_EQ(entries.size(), 3u);
  const std::string id = entries[0]["id"];
  EXPECT_NE(Run({"cache", "show", id.substr(0, 10)}).out.find("a third"), std::string::npos);
  EXPECT_EQ(Run({"cache", "show", "ffff0000ffff0000"}).code, 3);
  EXPECT_EQ(Run({"cache", "verify"}).code, 0);
  EXPECT_EQ(Run({"cache", "rm", id}).code, 0);
  EXPECT_EQ(Json::parse(Run({"cache", "ls", "--json"}).out).size(), 2u);
  EXPECT_EQ(Run({"cache", "rm"}).code, 2);
  EXPECT_EQ(Run({"cache", "rm", "--all"}).code, 0);
  EXPECT_EQ(Json::parse(Run({"cache", "ls", "--json"}).out).size(), 0u);
  EXPECT_EQ(Run({"cache", "ls", "--cache", "nowhere"}).code, 3);
}

TEST_F(CliTest, VerifyFindsADamagedFile) {
  ASSERT_EQ(RunTiny({"cache", "add", "The harbour master writes every ship"}).code, 0);
  for (const auto& file : fs::recursive_directory_iterator(folder_.path() / "cache")) {
    if (file.path().extension() == ".safetensors" &&
        file.path().string().find("blocks") != std::string::npos) {
      std::fstream stream(file.path(), std::ios::in | std::ios::out | std::ios::binary);
      stream.seekp(-2, std::ios::end);
      stream.put('\x55');
      break;
    }
  }
  const Result result = Run({"cache", "verify"});
  EXPECT_EQ(result.code, 3) << result.out;
  EXPECT_EQ(Run({"cache", "verify", "--set-aside"}).code, 0);
  // The entry has lost a block, which is said until the entry goes or is added again.
  EXPECT_EQ(Run({"cache", "verify", "--rebuild-index"}).code, 3);
  ASSERT_EQ(RunTiny({"cache", "add", "The harbour master writes every ship"}).code, 0);
  EXPECT_EQ(Run({"cache", "verify"}).code, 0);
}

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

TEST_F(CliTest, ModelInfoAndVerifyReadAnArchive) {
  const std::string model = testing::TinyModel("tiny-llama");
  EXPECT_EQ(Json::parse(Run({"model", "info", model, "--json"}).out)["shape"]["kv_heads"], 2);
  EXPECT_NE(Run({"model", "info", model}).out.find("fingerprint"), std::string::npos);
  const Json verified = Json::parse(Run({"model", "verify", model, "--json"}).out);
  EXPECT_GT(verified["probe"]["cuts"], 0);
  EXPECT_EQ(Run({"model", "verify", model}).code, 0);
  const Result encoder = Run({"model", "verify", testing::TinyModel("tiny-bert"), "--json"});
  EXPECT_EQ(Json::parse(encoder.out)["unit_length"], true) << encoder.err;
  EXPECT_EQ(Run({"model", "info", "absent.pt"}).code, 3);
}

TEST_F(CliTest, BenchComparesPhasesWithBoundsAndLeavesNothingBehind) {
  const Result result = RunTiny({"bench", "--repetitions", "1", "--json"});
  ASSERT_EQ(result.code, 0) << result.err;
  const Json bench = Json::parse(result.out);
  EXPECT_GT(bench["limits"]["read_gb_per_s"][0], 0.0);
  std::vector<std::string> phases;
  for (const Json& row : bench["rows"]) {
    phases.push_back(row["phase"]);
    EXPECT_GT(row["measured"], 0.0) << row;
    if (!row["bound"].is_null()) {
      EXPECT_GT(row["ratio"], 0.0) << row;
    }
  }
  for (const char* phase : {"model load", "prefill", "decode", "recycled TTFT", "restore"}) {
    EXPECT_NE(std::find(phases.begin(), phases.end(), phase), phases.end()) << phase;
  }
  EXPECT_FALSE(fs::exists(folder_.path() / "cache") &&
               fs::directory_iterator(folder_.path() / "cache") != fs::directory_iterator());
}

TEST_F(CliTest, BenchMeasuresWhatBusyProcessesLeave) {
  EXPECT_EQ(experiment::FairShare(2, 2, 2), 0.5);
  EXPECT_EQ(experiment::FairShare(2, 1, 4), 1);
  const Result result = RunTiny({"bench", "--busy", "1,3", "--repetitions", "2", "--json"});
  ASSERT_EQ(result.code, 0) << result.err;
  const Json bench = Json::parse(result.out);
  ASSERT_EQ(bench["rows"].size(), 10U) << bench;  // five figures
  for (const Json& row : bench["rows"]) {
    EXPECT_TRUE(row["loops"] == 1 || row["loops"] == 3) << row;
    EXPECT_GT(row["quiet"], 0.0) << row;
    EXPECT_GT(row["measured"], 0.0) << row;
    EXPECT_EQ(row["shares"].size(), 2U) << row;
    EXPECT_EQ(row["fair_share"],
              experiment::FairShare(bench["environment"]["threads"], row["loops"], bench["cores"]));
  }
  EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1) << "a busy loop is left";
  EXPECT_EQ(RunTiny({"bench", "--busy", "0"}).code, 2);
  EXPECT_EQ(RunTiny({"bench", "--busy", "1", "--cases", "-", "--json"}, "[]").code, 2);
}

TEST_F(CliTest, BenchRunsGivenCasesAndRecycledOnesGiveTheBaselinesTokens) {
  Json tokens = Json::array();
  for (int i = 0; i < 45; ++i) tokens.push_back((i * 37 + 11) % 200);
  const Json cases = {{{"what", "prefill"}, {"tokens", tokens}, {"new_tokens", 3}},
                      {{"what", "decode"}, {"tokens", {7, 8}}, {"new_tokens", 4}},
                      {{"what", "recycled"}, {"tokens", tokens}, {"cached", 40}, {"new_tokens", 3}},
                      {{"what", "embed"}, {"text", "The harbour master"}}};
  const Result result =
      RunTiny({"bench", "--cases", "-", "--repetitions", "2", "--json"}, cases.dump());
  ASSERT_EQ(result.code, 0) << result.err;
  const Json bench = Json::parse(result.out);
  ASSERT_EQ(bench["cases"].size(), 4U);
  const Json& baseline = bench["cases"][0];
  const Json& recycled = bench["cases"][2];
  EXPECT_EQ(baseline["tokens"].size(), 3U);
  EXPECT_EQ(baseline["reuse_depth"], 0);
  EXPECT_EQ(recycled["tokens"], baseline["tokens"]);
  EXPECT_EQ(recycled["reuse_depth"], 40);
  EXPECT_GT(recycled["restored_bytes"], 0);
  for (const char* phase : {"ttft", "restore", "prefill", "decode"}) {
    ASSERT_EQ(recycled["ms"][phase].size(), 2U) << phase;
    EXPECT_GT(recycled["ms"][phase][0], 0.0) << phase;
  }
  EXPECT_EQ(bench["cases"][1]["tokens"].size(), 4U);
  const std::vector<float> embedding = bench["cases"][3]["embedding"];
  float norm = 0;
  for (const float value : embedding) norm += value * value;
  EXPECT_NEAR(norm, 1, 1e-4);
  EXPECT_EQ(bench["cases"][3]["ms"]["embed"].size(), 2U);
  EXPECT_FALSE(fs::exists(folder_.path() / "cache") &&
               fs::directory_iterator(folder_.path() / "cache") != fs::directory_iterator());

  EXPECT_EQ(RunTiny({"bench", "--cases", "-"}, cases.dump()).code, 2);
  EXPECT_EQ(RunTiny({"bench", "--cases", "-", "--json"}, "[{}]").code, 2);
  EXPECT_EQ(RunTiny({"bench", "--cases", "absent.json", "--json"}).code, 3);
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
