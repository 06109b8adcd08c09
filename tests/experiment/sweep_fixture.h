// A sweep over a stand-in for the engine, and what its tests begin with.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "kvr/base/file.h"
#include "kvr/experiment/sweep.h"
#include "kvr/record/merge.h"
#include "kvr/record/run.h"
#include "testing.h"

namespace kvr::experiment {

namespace fs = std::filesystem;

// Notes what it is asked for, and does as told at a given call.
class FakeExecutor : public Executor {
 public:
  Json Environment() override {
    Json environment;
    for (const char* field :
         {"cpu_model", "instruction_set", "threads", "libtorch_version", "commit"}) {
      environment[field] = "fake";
    }
    return environment;
  }
  record::ModelInfo Load(const ModelChoice& choice, const Progress& progress) override {
    Note("load " + choice.path);
    progress("loading " + choice.path);
    return {.name = choice.path, .precision = "fp32", .fingerprint = fingerprint};
  }
  std::vector<std::size_t> PromptTokens() const override { return {4, 5}; }
  std::optional<std::string> ParentOf(std::size_t) const override { return "p"; }
  std::string CacheName(cache::Codec) override { return std::string(64, 'a'); }
  void OpenCache(const fs::path& folder, cache::Codec codec) override {
    Note(std::string("open ") + cache::ToString(codec));
    fs::create_directories(folder / CacheName(codec));
  }
  std::optional<record::Fill> Fill(std::size_t cached, cache::Codec codec, bool recorded) override {
    Note("fill " + std::to_string(cached) + (recorded ? " again" : ""));
    if (recorded) return std::nullopt;
    return record::Fill{
        .model = "m", .precision = "fp32", .entry = "p", .codec = cache::ToString(codec)};
  }
  void Freeze(cache::Codec) override { Note("freeze"); }
  double TtftMs(std::size_t, int free_tokens) override {
    Note("ttft");
    return free_tokens == 0 ? 2 : 1;
  }
  void WarmUp(const Step&, int) override { Note("warm up"); }
  void Run(const Step& step, int round, int free_tokens, record::Cell* cell) override {
    Note("run");
    EXPECT_EQ(free_tokens, 5);
    ran.emplace_back(cell->prompt_id, round);
    cell->outcome = step.plan.arm == engine::Arm::kBaseline || cell->is_null() ? "off" : "miss";
    cell->prompt_tokens = 4;
    if (ttft_ms) cell->ttft_ms = ttft_ms(*cell);
    cell->tokens = {1};
    cell->new_tokens = 1;
  }

  void Unload() noexcept override { calls.push_back("unload"); }

  std::string fingerprint = "f";
  std::vector<std::string> calls;
  std::vector<std::pair<std::string, int>> ran;
  std::function<void(const std::string& call)> on_call;
  std::function<double(const record::Cell& cell)> ttft_ms;

 private:
  void Note(const std::string& call) {
    calls.push_back(call);
    if (on_call) on_call(call);
  }
};

class SweepOrderTest : public ::testing::Test {
 protected:
  SweepOrderTest() {
    config_.name = "fake";
    config_.json = {{"name", "fake"}};
    config_.models = {{"m", ""}};
    config_.cache_prompts = {{"p", "text"}};
    config_.test_prompts = {{"t", "g", "text"}, {"u", "g", "text"}};
    config_.codecs = {cache::Codec::kFp32};
    config_.reuses = {{.policy = engine::Policy::kPrefix, .match = cache::Match::kToken}};
    config_.repetitions = 3;
    config_.warmups = 1;
  }

  fs::path folder() const { return root_.path() / "r"; }
  void Sweep(bool resume = false) {
    RunSweep(config_, {.folder = folder(), .resume = resume}, fake_);
  }
  record::Run Read() const { return record::ReadRun(folder()); }

  // Stops at the call number `at` (from 1) that begins with `call`.
  void StopAt(const std::string& call, int at, Error::Kind kind = Error::Kind::kInterrupted) {
    fake_.on_call = [=, seen = 0](const std::string& name) mutable {
      if (name.starts_with(call) && ++seen == at) throw Error(kind, "stopped at " + name);
    };
  }

  testing::TempFolder root_;
  Config config_;
  FakeExecutor fake_;
};

}  // namespace kvr::experiment
