#include "kvr/experiment/workload.h"

#include <gtest/gtest.h>

#include "kvr/base/file.h"
#include "kvr/experiment/config.h"
#include "kvr/experiment/prompts.h"
#include "kvr/experiment/setting_reader.h"
#include "kvr/experiment/sweep.h"
#include "kvr/record/run.h"
#include "testing.h"

namespace kvr::experiment {
namespace {

// Prompts that count: "n" of them, all of which the cached one begins.
void ReadCounting(SettingReader& reader, const std::filesystem::path&, Config* config) {
  const std::int64_t count = reader.Integer("n", 1, 1, 100);
  config->cache_prompts = {{"begin", "one"}};
  for (std::int64_t i = 0; i < count; ++i) {
    config->test_prompts.push_back({"t" + std::to_string(i), "all", "one " + std::to_string(i)});
  }
}

class WorkloadTest : public ::testing::Test {
 protected:
  Config Read(const Json& changes) {
    Json config = {{"models", "m.pt"}, {"policies", "prefix"}};
    config.update(changes);
    WriteAndRename(folder_.path() / "c.json", config.dump());
    return ReadConfig(folder_.path() / "c.json", {}, workloads_);
  }
  std::string Refusal(const Json& changes) {
    std::string message;
    KVR_EXPECT_ERROR((void)Read(changes), kInvalidInput, message);
    return message;
  }

  testing::TempFolder folder_;
  std::vector<Workload> workloads_{kWorkloads.begin(), kWorkloads.end()};
};

TEST_F(WorkloadTest, AddingOneWorkloadIsOneFileAndOneLine) {
  workloads_.push_back({"counting", ReadCounting});
  const Config config = Read({{"workload", "counting"}, {"n", 3}});
  EXPECT_EQ(config.test_prompts.size(), 3u);
  EXPECT_EQ(config.cache_prompts.at(0).id, "begin");
  EXPECT_NE(Refusal({{"workload", "conting"}}).find("did you mean \"counting\"?"),
            std::string::npos);
}

TEST_F(WorkloadTest, ASettingOfAnotherWorkloadIsRefused) {
  workloads_.push_back({"counting", ReadCounting});
  const Json prompts = {{{"id", "a"}, {"text", "b"}}};
  EXPECT_NE(Refusal({{"workload", "counting"}, {"test_prompts", prompts}}).find("test_prompts"),
            std::string::npos);
  EXPECT_NE(Refusal({{"cache_prompts", prompts}, {"test_prompts", prompts}, {"n", 3}}).find("/n"),
            std::string::npos);
}

TEST_F(WorkloadTest, PairsIsWhatAConfigWithoutAWorkloadHas) {
  const Json prompts = {{{"id", "a"}, {"text", "b"}}};
  const Json pairs = {{"cache_prompts", prompts}, {"test_prompts", prompts}};
  EXPECT_EQ(Read(pairs).test_prompts.size(), 1u);
  Json named = pairs;
  named["workload"] = "pairs";
  EXPECT_EQ(Read(named).test_prompts.size(), 1u);
}

TEST_F(WorkloadTest, ControlMakesEveryGroupAControlGroup) {
  const Json config = {
      {"workload", "control"},
      {"cache_prompts", {{{"id", "a"}, {"text", "b"}}}},
      {"test_prompts",
       {{{"id", "t"}, {"text", "x"}, {"group", "g"}}, {{"id", "u"}, {"text", "y"}}}}};
  EXPECT_EQ(Read(config).control_groups, (std::vector<std::string>{"g", "all"}));
  EXPECT_EQ(Read(config).json.at("control_groups"), Json({"g", "all"}));  // for the report
  Json named = config;
  named["control_groups"] = "g";
  EXPECT_NE(Refusal(named).find("/control_groups"), std::string::npos);
  named = config;
  named["margin"] = 0;
  EXPECT_NE(Refusal(named).find("/margin"), std::string::npos);
}

TEST_F(WorkloadTest, SharedPrefixAsksEachDocumentItsOwnAndTheCommonQuestions) {
  Json config = {{"workload", "shared-prefix"},
                 {"documents",
                  {{{"id", "d"}, {"text", "Doc."}, {"questions", "Own?"}},
                   {{"id", "e"}, {"text", "Other."}, {"group", "long"}}}},
                 {"questions", {"One?", "Two?"}},
                 {"joint", " "}};
  const Config read = Read(config);
  ASSERT_EQ(read.test_prompts.size(), 5u);
  EXPECT_EQ(read.cache_prompts.at(1).text, "Other.");
  EXPECT_EQ(read.test_prompts[0].text, "Doc. Own?");
  EXPECT_EQ(read.test_prompts[4].text, "Other. Two?");
  EXPECT_EQ(read.test_prompts[4].id, "e/2");
  EXPECT_EQ(read.test_prompts[4].session, "e");
  EXPECT_EQ(read.test_prompts[4].group, "long");
  config.erase("questions");
  EXPECT_NE(Refusal(config).find("e has no \"questions\""), std::string::npos);
}

class ContextTest : public WorkloadTest {
 protected:
  ContextTest() {
    std::string text;
    for (int i = 0; i < 200; ++i) text += "ship number " + std::to_string(i) + " came in. ";
    WriteAndRename(folder_.path() / "t.txt", text);
  }
  Prompts Make(const Json& changes) {
    Json config = {{"workload", "context"},
                   {"text", "t.txt"},
                   {"lengths", {96, 48}},
                   {"stretches", 3},
                   {"turn_tokens", 8}};
    config.update(changes);
    return PreparePrompts(Read(config), {info_, tokenizer_, {}}, nullptr);
  }
  const model::ArchiveInfo info_ = model::ReadArchiveInfo(testing::TinyModel("tiny-gpt2"));
  const text::Tokenizer tokenizer_{info_.metadata.at("tokenizer"), info_.tokenizer_model};
};

TEST_F(ContextTest, HistoriesHaveTheirLengthsAndTheLastTurnIsSavedOnTop) {
  const Prompts prompts = Make(Json::object());
  ASSERT_EQ(prompts.test.size(), 6u);
  ASSERT_EQ(prompts.cached.size(), 12u);
  for (std::size_t i = 0; i < prompts.test.size(); ++i) {
    const std::size_t history = i % 2 == 0 ? 48 : 96;
    const TestedTokens& test = prompts.test[i];
    EXPECT_EQ(test.history_tokens, history);
    EXPECT_EQ(test.tokens.size(), history + 8);
    EXPECT_EQ(test.sees, (std::vector<std::size_t>{2 * i, 2 * i + 1}));
    const CachedTokens& whole = prompts.cached[2 * i + 1];
    EXPECT_EQ(whole.answered_tokens, history - 8);
    EXPECT_TRUE(std::equal(whole.tokens.begin(), whole.tokens.end(), test.tokens.begin()));
    EXPECT_EQ(whole.tokens.size(), history);
    EXPECT_EQ(prompts.cached[2 * i].tokens.size(), history - 8);
  }
  EXPECT_EQ(Make(Json::object()).test[4].tokens, prompts.test[4].tokens);  // by the seed
  EXPECT_NE(Make({{"seed", 9}}).test[4].tokens, prompts.test[4].tokens);   // and by no other
}

TEST_F(ContextTest, EachHistoryIsReusedWholeAndItsSavingCostsOneTurn) {
  const Config config = Read({{"models", testing::TinyModel("tiny-gpt2")},
                              {"workload", "context"},
                              {"text", "t.txt"},
                              {"lengths", {96, 48}},
                              {"stretches", 1},
                              {"turn_tokens", 8},
                              {"max_new_tokens", 2},
                              {"repetitions", 1},
                              {"warmups", 0},
                              {"threads", 1},
                              {"block_tokens", 16}});
  RunSweep(config, {.folder = folder_.path() / "r"});
  const record::Run run = record::ReadRun(folder_.path() / "r");
  EXPECT_EQ(run.cells.size(), 8u);
  for (const record::Cell& cell : run.cells) {
    EXPECT_TRUE(cell.fidelity && cell.fidelity->exact) << cell.prompt_id;
    if (cell.recycled() && !cell.is_null()) {
      EXPECT_EQ(cell.reuse_depth, cell.history_tokens);
      EXPECT_EQ(cell.entry, cell.prompt_id);
    }
  }
  for (const record::Fill& fill : run.fill) {
    const bool on_top = fill.entry.find("before") == std::string::npos;
    EXPECT_EQ(fill.new_blocks + fill.shared_blocks, (fill.tokens + 15) / 16);
    EXPECT_EQ(fill.new_blocks, on_top ? 1 : (fill.tokens + 15) / 16 - fill.shared_blocks);
  }
}

TEST_F(ContextTest, ATextOrAContextThatIsTooShortIsRefused) {
  std::string message;
  KVR_EXPECT_ERROR((void)Make({{"lengths", 150}}), kInvalidInput, message);
  EXPECT_NE(message.find("context of 160"), std::string::npos) << message;
  KVR_EXPECT_ERROR((void)Make({{"lengths", 100000}}), kInvalidInput, message);
  EXPECT_NE(message.find("t.txt: has "), std::string::npos) << message;
  KVR_EXPECT_ERROR((void)Make({{"lengths", 8}}), kInvalidInput, message);  // no more than a turn
}

}  // namespace
}  // namespace kvr::experiment
