// What the program makes of its arguments, streams, limits and signals.
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/resource.h>

#include <chrono>
#include <csignal>
#include <fstream>
#include <sstream>
#include <thread>

#include "cli_fixture.h"
#include "kvr/base/json.h"
#include "kvr/engine/generator.h"
#include "kvr/model/runtime.h"

namespace kvr {
namespace {

namespace fs = std::filesystem;

using ProcessTest = CliTest;

TEST_F(ProcessTest, ATextArgumentIsTakenAsItWasGiven) {
  const std::vector<std::string> texts = {"[INST] Who, me? [/INST]",
                                          "[a,b]",
                                          "[]",
                                          "[[x]]",
                                          "[x]\x1f",
                                          "a, b",
                                          "\"q\"",
                                          "'q'",
                                          "++",
                                          "run",
                                          "{\"a\": [1, 2]}",
                                          "[1,2]\n"};
  std::vector<std::string> args = {"cache", "add"};
  args.insert(args.end(), texts.begin(), texts.end());
  const Result added = RunTiny(args);
  ASSERT_EQ(added.code, 0) << added.err;
  std::vector<std::string> found;
  for (const Json& entry : Json::parse(Run({"cache", "ls", "--json"}).out)) {
    found.push_back(entry["text"]);
  }
  EXPECT_EQ(found, texts);
  for (const std::string& text : {texts[0], texts[1], texts[4]}) {
    const Result ids = Run({"tokenize", "--json", "-m", testing::TinyModel("tiny-gpt2"), text});
    const Result run = RunTiny({"run", text, "-n", "1", "--json", "--arm", "baseline"});
    EXPECT_EQ(Json::parse(run.out)["prompt_tokens"], Json::parse(ids.out)["count"]) << text;
    const Json back =
        Json::parse(Run({"tokenize", "--json", "--decode", "-m", testing::TinyModel("tiny-gpt2"),
                         Json::parse(ids.out)["ids"].dump()})
                        .out);
    EXPECT_EQ(back["text"], text);
  }
}

TEST_F(ProcessTest, WhatIsMeantForAClosedStreamLandsInNoFile) {
  WriteConfig(1);
  const std::string gpt2 = testing::TinyModel("tiny-gpt2");
  for (const int stream : {0, 1, 2}) {
    SCOPED_TRACE(stream);
    before_exec_ = [stream] { ::close(stream); };
    const std::string out = "run-" + std::to_string(stream);
    for (const std::vector<std::string>& command :
         {std::vector<std::string>{"sweep", "tiny.json", "--out", out, "--set", "models=" + gpt2},
          {"report", out},
          {"cache", "add", "The harbour master", "--json", "-m", gpt2},
          {"run", "The harbour master", "-n", "2", "-m", gpt2},
          {"tokenize", "x", "-m", gpt2},
          {"model", "info", gpt2},
          {"cache", "rm", "--all"}}) {
      EXPECT_EQ(Wait(Start(command)).code, 0) << command[0] << ' ' << command[1];
    }
    std::istringstream cells(ReadFile(folder_.path() / out / "cells.jsonl"));
    for (std::string line; std::getline(cells, line);) EXPECT_TRUE(Json::accept(line)) << line;
    for (const auto& file : fs::recursive_directory_iterator(folder_.path() / "cache")) {
      if (file.path().filename() != "lock") continue;
      EXPECT_EQ(file.file_size(), 0u);
    }
  }
}

TEST_F(ProcessTest, OutputThatCannotBeWrittenIsFour) {
  before_exec_ = [] { ::dup2(::open("/dev/full", O_WRONLY), STDOUT_FILENO); };
  const std::string gpt2 = testing::TinyModel("tiny-gpt2");
  for (const std::vector<std::string>& command : {std::vector<std::string>{"--help"},
                                                  {"--version"},
                                                  {"run", "--help"},
                                                  {"tokenize", "x", "-m", gpt2},
                                                  {"model", "info", gpt2},
                                                  {"run", "x", "-n", "2", "--json", "-m", gpt2}}) {
    const Result result = Wait(Start(command));
    EXPECT_EQ(result.code, 4) << command[0];
    EXPECT_EQ(CountLines(result.err), 1u) << result.err;
    EXPECT_NE(result.err.find("standard output"), std::string::npos) << result.err;
  }
}

TEST_F(ProcessTest, AFileSizeLimitIsAnErrorAndNoDeath) {
  before_exec_ = [] {
    const rlimit limit{4096, 4096};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  };
  const Result result = RunTiny({"cache", "add", "The harbour master writes every ship into"});
  EXPECT_EQ(result.code, 4) << result.err;
}

TEST_F(ProcessTest, AnInterruptEndsTheReadingOfStandardInput) {
  const std::string gpt2 = testing::TinyModel("tiny-gpt2");
  for (const std::vector<std::string>& command :
       {std::vector<std::string>{"tokenize", "-", "-m", gpt2},
        {"run", "-", "-m", gpt2},
        {"run", "--batch", "-", "-m", gpt2},
        {"cache", "add", "-", "-m", gpt2}}) {
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    before_exec_ = [&] { ::dup2(ends[0], STDIN_FILENO); };
    const pid_t child = Start(command);
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    // Until the handler is there a signal ends the program by itself.
    for (int i = 0; i < 100; ++i) {
      std::string caught;
      std::ifstream status("/proc/" + std::to_string(child) + "/status");
      for (std::string line; std::getline(status, line);) {
        if (line.starts_with("SigCgt:")) caught = line;
      }
      if (!caught.empty() && (std::stoull(caught.substr(7), nullptr, 16) >> (SIGINT - 1) & 1))
        break;
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    ::kill(child, SIGINT);
    EXPECT_EQ(Wait(child).code, 130) << command[0];
    ::close(ends[0]);
    ::close(ends[1]);
  }
}

TEST_F(ProcessTest, JsonThatNobodyWouldWriteIsTwo) {
  const std::string deep = std::string(100000, '[') + std::string(100000, ']');
  WriteAndRename(folder_.path() / "deep.json", deep);
  WriteAndRename(folder_.path() / "deep.jsonl", deep + "\n");
  WriteAndRename(folder_.path() / "twice.json", "{\"models\": \"a\", \"models\": \"b\"}");
  const std::string gpt2 = testing::TinyModel("tiny-gpt2");
  for (const std::vector<std::string>& command :
       {std::vector<std::string>{"sweep", "deep.json", "--dry-run"},
        {"sweep", "twice.json", "--dry-run"},
        {"tokenize", "--jsonl", "deep.jsonl", "-m", gpt2},
        {"run", "--batch", "deep.jsonl", "-m", gpt2},
        {"cache", "add", "--jsonl", "deep.jsonl", "-m", gpt2},
        {"bench", "--cases", "deep.json", "--json", "-m", gpt2}}) {
    const Result result = Run(command);
    EXPECT_EQ(result.code, 2) << result.err;
    EXPECT_LT(result.err.size(), 400u);
  }
}

TEST_F(ProcessTest, ErrorsNameThePromptAndDoNotRepeatIt) {
  const std::string text(3000, 'q');
  WriteAndRename(folder_.path() / "b.jsonl",
                 "{\"id\":\"good\",\"text\":\"x\"}\n{\"id\":\"long\",\"text\":\"" + text + "\"}\n");
  const Result batch = RunTiny({"run", "--batch", "b.jsonl", "--json", "-n", "1"});
  EXPECT_EQ(batch.code, 2);
  EXPECT_NE(batch.err.find("prompt long"), std::string::npos) << batch.err;
  EXPECT_NE(batch.err.find("1 of 2"), std::string::npos) << batch.err;
  WriteAndRename(folder_.path() / "c.jsonl", "{\"id\":\"torn\",\"text\":\"" + text);
  for (const Result& result :
       {batch, RunTiny({"run", "--batch", "c.jsonl"}), Run({"run", "x", text, text})}) {
    EXPECT_EQ(result.code, 2);
    EXPECT_LT(result.err.size(), 500u) << result.err;
  }
}

TEST_F(ProcessTest, WhatIsNoArchiveOrNoFolderIsSaidToBe) {
  EXPECT_EQ(RunTiny({"cache", "add", "x", "-c", ""}).code, 2);
  EXPECT_EQ(Run({"cache", "ls", "-c", ""}).code, 2);
  EXPECT_EQ(Run({"cache", "rm", "--all", "-c", ""}).code, 2);
  EXPECT_FALSE(fs::exists(folder_.path() / "lock"));
  WriteAndRename(folder_.path() / "m.gguf", "GGUF\x03");
  fs::create_directory(folder_.path() / "hub");
  for (const char* path : {"m.gguf", "hub"}) {
    const Result result = Run({"run", "x", "-m", path});
    EXPECT_EQ(result.code, 3);
    EXPECT_NE(result.err.find("export_model.py"), std::string::npos) << result.err;
    EXPECT_EQ(result.err.find("corrupt"), std::string::npos) << result.err;
  }
}

TEST_F(ProcessTest, AMissAndAHitAreToldAsSentences) {
  WriteAndRename(folder_.path() / "p.txt", "The harbour master writes");
  const Result miss = RunTiny({"run", "-f", "p.txt", "--save", "-n", "4", "--ignore-eos"});
  ASSERT_EQ(miss.code, 0) << miss.err;
  EXPECT_NE(miss.out.find("nothing recycled: no cached prompt"), std::string::npos) << miss.out;
  const Result hit = RunTiny({"run", "-f", "p.txt", "-n", "4", "--ignore-eos"});
  EXPECT_NE(hit.out.find("prompt tokens: first token after"), std::string::npos) << hit.out;
  EXPECT_NE(hit.out.find("(the same 4 tokens)"), std::string::npos) << hit.out;
  EXPECT_NE(hit.out.find("bit for bit"), std::string::npos) << hit.out;
  EXPECT_EQ(RunTiny({"run", "x", "-f", "p.txt"}).code, 2);
  EXPECT_EQ(RunTiny({"run"}).code, 2);
}

TEST_F(ProcessTest, AReplysEndAndAnEmptyReplyAreSaid) {
  // Seeds that make the tiny model end its text at once, and after some tokens.
  model::SetUpRuntime(2);
  engine::Generator generator({.model = testing::TinyModel("tiny-gpt2")});
  const std::string prompt = "The harbour master writes";
  std::string at_once, later;
  for (int seed = 0; seed < 20000 && (at_once.empty() || later.empty()); ++seed) {
    const engine::Generation reply =
        generator.Generate({.tokens = generator.tokenizer().Encode(prompt),
                            .max_new_tokens = 3,
                            .sampling = {.temperature = 50, .seed = static_cast<unsigned>(seed)}});
    if (!reply.ended) continue;
    (reply.tokens.size() == 1 ? at_once : later) = std::to_string(seed);
  }
  const auto run = [&](const std::string& seed) {
    return RunTiny({"run", prompt, "-n", "3", "--temperature", "50", "--seed", seed}).out;
  };
  const std::string ended = run(later), empty = run(at_once);
  EXPECT_NE(ended.find("[end of text]"), std::string::npos) << ended;
  EXPECT_EQ(ended.find("empty reply"), std::string::npos) << ended;
  EXPECT_NE(empty.find("(an empty reply: "), std::string::npos) << empty;
  EXPECT_NE(empty.find("[end of text]"), std::string::npos) << empty;
  const std::string cut =
      RunTiny({"run", prompt, "-n", "3", "--temperature", "50", "--seed", later, "--ignore-eos"})
          .out;
  EXPECT_EQ(cut.find("[end of text]"), std::string::npos) << cut;
}

TEST_F(ProcessTest, ControlCharactersOfAStoredTextAreShownAsCodes) {
  const std::string evil =
      "evil \x1b]0;owned\x07 \xc2\x9b"
      "31m";
  ASSERT_EQ(RunTiny({"cache", "add", evil, evil + std::string(100, 'x')}).code, 0);
  std::vector<std::string> shown = {Run({"cache", "ls"}).out};
  for (const Json& entry : Json::parse(Run({"cache", "ls", "--json"}).out)) {
    shown.push_back(Run({"cache", "show", entry["id"].get<std::string>()}).out);
  }
  ASSERT_EQ(shown.size(), 3u);
  for (const std::string& out : shown) {
    EXPECT_NE(out.find("evil \\x1b]0;owned\\x07 \\x9b31m"), std::string::npos) << out;
    EXPECT_EQ(out.find_first_of("\x1b\x07"), std::string::npos);
    EXPECT_EQ(out.find("\xc2\x9b"), std::string::npos);
  }
}

TEST_F(ProcessTest, TroubleWithTheCacheIsAWarningAndTheAnswerComes) {
  WriteAndRename(folder_.path() / "b.jsonl", "{\"text\": \"ships\"}\n{\"text\": \"cargo\"}\n");
  const std::vector<std::string> run = {"run", "--batch", "b.jsonl", "--json", "-n", "2", "--save"};
  const auto check = [&](const Result& result, const char* what) {
    EXPECT_EQ(result.code, 0) << what << result.err;
    EXPECT_EQ(CountLines(result.out), 2u) << what;
    EXPECT_EQ(CountLines(result.err), 2u) << what << result.err;  // the cache; its saving
    std::istringstream lines(result.out);
    for (std::string line; std::getline(lines, line);) {
      const Json json = Json::parse(line);
      EXPECT_TRUE(json["save"].is_null()) << line;
      EXPECT_EQ(json["arms"][1]["outcome"], "miss") << line;
      EXPECT_FALSE(json["arms"][1]["tokens"].empty());
    }
  };
  WriteAndRename(folder_.path() / "cache", "a file where the folder should be");
  check(RunTiny(run), "a file");
  fs::remove(folder_.path() / "cache");
  fs::create_directory_symlink("/proc", folder_.path() / "cache");
  check(RunTiny(run), "a place that can't be written");
  fs::remove(folder_.path() / "cache");

  // Another process holds the lock.
  ASSERT_EQ(RunTiny({"cache", "add", "ships sail"}).code, 0);
  fs::path lock;
  for (const auto& file : fs::recursive_directory_iterator(folder_.path() / "cache")) {
    if (file.path().filename() == "lock") lock = file.path();
  }
  const UniqueFd held(::open(lock.c_str(), O_RDWR));
  ASSERT_EQ(::flock(held.get(), LOCK_EX), 0);
  const Result locked = RunTiny({"run", "ships sail on", "--json", "-n", "2"});
  EXPECT_EQ(locked.code, 0) << locked.err;
  EXPECT_EQ(Json::parse(locked.out)["arms"][1]["outcome"], "hit") << locked.out;
  EXPECT_NE(locked.err.find("only read"), std::string::npos) << locked.err;
}

TEST_F(ProcessTest, ACacheThatOthersCanWriteIsWarnedOf) {
  const std::vector<std::string> run = {"run", "ships sail on", "--json", "-n", "2"};
  ASSERT_EQ(RunTiny({"cache", "add", "ships sail"}).code, 0);
  EXPECT_EQ(RunTiny(run).err, "");
  const fs::path store = fs::directory_iterator(folder_.path() / "cache")->path();
  fs::permissions(store, fs::perms::group_write, fs::perm_options::add);
  Result result = RunTiny(run);
  EXPECT_NE(result.err.find("others can write the cache"), std::string::npos) << result.err;
  EXPECT_EQ(Json::parse(result.out)["arms"][1]["outcome"], "hit") << result.out;
  if (::geteuid() != 0) return;  // only root can give a folder away
  ASSERT_EQ(::chown(store.c_str(), 12345, 12345), 0);
  result = RunTiny(run);
  EXPECT_EQ(result.code, 0);
  EXPECT_NE(result.err.find("belongs to user 12345"), std::string::npos) << result.err;
}

}  // namespace
}  // namespace kvr
