// The program as its users start it: in a folder of its own, with its streams in files there.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "kvr/base/file.h"
#include "kvr/base/json.h"
#include "testing.h"

namespace kvr {

struct Result {
  int code = -1;
  std::string out, err;
};

inline std::size_t CountLines(const std::string& text) {
  return static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n'));
}

class CliTest : public ::testing::Test {
 protected:
  // Starts the program in the test's folder, its output in files there.
  pid_t Start(std::vector<std::string> args, const std::string& input = "") {
    WriteAndRename(folder_.path() / "in", input);
    const pid_t child = ::fork();
    if (child == 0) {
      if (::chdir(folder_.path().c_str()) != 0) ::_exit(99);
      ::dup2(::open("in", O_RDONLY), STDIN_FILENO);
      ::dup2(::open("out", O_WRONLY | O_CREAT | O_TRUNC, 0644), STDOUT_FILENO);
      ::dup2(::open("err", O_WRONLY | O_CREAT | O_TRUNC, 0644), STDERR_FILENO);
      if (before_exec_) before_exec_();
      args.insert(args.begin(), KVR_BINARY);
      std::vector<char*> argv;
      for (std::string& arg : args) argv.push_back(arg.data());
      argv.push_back(nullptr);
      ::execv(KVR_BINARY, argv.data());
      ::_exit(98);
    }
    return child;
  }

  Result Wait(pid_t child) {
    int status = 0;
    ::waitpid(child, &status, 0);
    return {WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status),
            ReadFile(folder_.path() / "out"), ReadFile(folder_.path() / "err")};
  }

  Result Run(const std::vector<std::string>& args, const std::string& input = "") {
    return Wait(Start(args, input));
  }

  // With the tiny models and blocks of 16 tokens.
  Result RunTiny(std::vector<std::string> args, const std::string& input = "") {
    const std::vector<std::string> models = {"--model",        testing::TinyModel("tiny-gpt2"),
                                             "--encoder",      testing::TinyModel("tiny-bert"),
                                             "--block-tokens", "16"};
    args.insert(args.end(), models.begin(), models.end());
    return Run(args, input);
  }

  void WriteConfig(int repetitions) {
    WriteAndRename(folder_.path() / "cache.jsonl",
                   "{\"id\":\"p1\",\"text\":\"The harbour master writes every ship into\"}\n"
                   "{\"id\":\"p2\",\"text\":\"Numbers such as 1, 22 and 4096 are cargo.\"}\n");
    WriteAndRename(
        folder_.path() / "test.jsonl",
        "{\"id\":\"t1\",\"group\":\"extends\",\"text\":\"The harbour master writes every ship "
        "into a book: its name.\"}\n"
        "{\"id\":\"t2\",\"group\":\"diverges\",\"text\":\"Numbers such as 1, 22 and more\"}\n"
        "{\"id\":\"t3\",\"group\":\"control\",\"text\":\"quotes like this\"}\n");
    const Json config = {
        {"name", "tiny"},
        {"models",
         {testing::TinyModel("tiny-gpt2").string(), testing::TinyModel("tiny-random").string()}},
        {"encoder", testing::TinyModel("tiny-bert").string()},
        {"cache_prompts", "cache.jsonl"},
        {"test_prompts", "test.jsonl"},
        {"control_groups", {"control"}},
        {"policies", {"embedding", "prefix"}},
        {"match", {"whole", "token", "block"}},
        {"repetitions", repetitions},
        {"warmups", 1},
        {"max_new_tokens", 4},
        {"stop_at_eos", false},
        {"block_tokens", 16}};
    WriteAndRename(folder_.path() / "tiny.json", "// a comment\n" + config.dump());
  }

  testing::TempFolder folder_;
  std::function<void()> before_exec_;  // in the child
};

}  // namespace kvr
