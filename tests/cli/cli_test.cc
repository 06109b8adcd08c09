// The program as a whole: help, usage, exit codes; models and tokenizers.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <map>

#include "cli_fixture.h"
#include "kvr/base/file.h"
#include "kvr/base/json.h"
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
                                                  {"tokenize"},
                                                  {"trace"}}) {
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

TEST_F(CliTest, WhatIsNotThereIsTwoAndOneLine) {
  const std::string plain = testing::TinyModel("tiny-random");  // without a chat template
  for (const auto& [option, value] :
       std::map<std::string, std::string>{{"--template", "chat"}, {"--device", "cuda:99"}}) {
    const Result result = Run({"run", "hello", "--model", plain, option, value});
    EXPECT_EQ(result.code, 2) << option;
    EXPECT_EQ(CountLines(result.err), 1U) << result.err;
  }
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

}  // namespace
}  // namespace kvr
