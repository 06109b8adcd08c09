// Multi-turn conversations: how their prompts are made, what each turn may see, and that both arms
// agree on every turn.
#include <gtest/gtest.h>

#include <algorithm>

#include "kvr/base/file.h"
#include "kvr/experiment/prompts.h"
#include "kvr/experiment/sweep.h"
#include "kvr/record/run.h"
#include "testing.h"

namespace kvr::experiment {
namespace {

using testing::TinyModel;

bool BeginsWith(const Tokens& tokens, const Tokens& beginning) {
  return tokens.size() >= beginning.size() &&
         std::equal(beginning.begin(), beginning.end(), tokens.begin());
}

class ConversationTest : public ::testing::Test {
 protected:
  ConversationTest() {
    Json turns = Json::array();
    for (int turn = 0; turn < 8; ++turn) turns.push_back("turn number " + std::to_string(turn));
    config_ = {{"models", TinyModel("tiny-gpt2")},
               {"workload", "conversation"},
               {"conversations", {{{"id", "a"}, {"turns", turns}}}},
               {"template", "raw"},
               {"policies", "prefix"},
               {"max_new_tokens", 3},
               {"reply_tokens", 5},
               {"repetitions", 1},
               {"warmups", 0},
               {"stop_at_eos", false},
               {"threads", 1},
               {"block_tokens", 16}};
  }

  Config Read() const {
    WriteAndRename(folder_.path() / "c.json", config_.dump());
    return ReadConfig(folder_.path() / "c.json", {});
  }
  std::string Refusal() const {
    std::string message;
    KVR_EXPECT_ERROR((void)Read(), kInvalidInput, message);
    return message;
  }

  // Each reply says how long its prompt was, so that two prompts never get the same.
  static Tokens CountingReply(const Tokens& prompt, int max_new_tokens) {
    Tokens reply(static_cast<std::size_t>(max_new_tokens), 40);
    reply[0] = static_cast<Token>(41 + prompt.size());
    return reply;
  }
  Prompts Make(const Reply& reply = CountingReply) const {
    return PreparePrompts(Read(), {info_, tokenizer_, chat_}, reply);
  }

  testing::TempFolder folder_;
  Json config_;
  const model::ArchiveInfo info_ = model::ReadArchiveInfo(TinyModel("tiny-gpt2"));
  const text::Tokenizer tokenizer_{info_.metadata.at("tokenizer"), info_.tokenizer_model};
  std::optional<text::ChatTemplate> chat_;
};

TEST_F(ConversationTest, ATurnBeginsWithWhatTheTurnBeforeSaved) {
  config_["conversations"][0]["turns"].erase(4);  // seven fit
  config_["conversations"].push_back({{"id", "b"}, {"turns", {"one", "two"}}});
  for (int i = 0; i < 3; ++i) config_["conversations"][0]["turns"].erase(4);
  const Prompts prompts = Make();
  ASSERT_EQ(prompts.test.size(), 6u);
  for (std::size_t i = 0; i < prompts.test.size(); ++i) {
    const std::size_t first = i < 4 ? 0 : 4;  // its conversation's
    std::vector<std::size_t> before;
    for (std::size_t j = first; j < i; ++j) before.push_back(j);
    EXPECT_EQ(prompts.test[i].sees, before) << i;
    EXPECT_EQ(prompts.cached[i].answered_tokens, prompts.test[i].tokens.size());
    EXPECT_TRUE(BeginsWith(prompts.cached[i].tokens, prompts.test[i].tokens));
    EXPECT_TRUE(prompts.cached[i].text.starts_with(prompts.test[i].text));
    if (i == first) {
      EXPECT_EQ(prompts.test[i].history_tokens, 0u);
    } else {
      EXPECT_TRUE(BeginsWith(prompts.test[i].tokens, prompts.cached[i - 1].tokens)) << i;
      EXPECT_EQ(prompts.test[i].history_tokens, prompts.cached[i - 1].tokens.size());
    }
  }
  const Config config = Read();
  EXPECT_EQ(config.test_prompts[5].id, "none/b/2");
  EXPECT_EQ(config.test_prompts[5].session, "b");
  EXPECT_EQ(config.test_prompts[5].turn, 2);
}

TEST_F(ConversationTest, WithoutAWindowWhatMayNotFitIsRefusedBeforeAnythingRuns) {
  config_["context_tokens"] = 64;
  std::string message;
  KVR_EXPECT_ERROR((void)Make(), kInvalidInput, message);
  EXPECT_NE(message.find("conversation a, turn "), std::string::npos) << message;
  EXPECT_NE(message.find("\"step\""), std::string::npos) << message;
  KVR_EXPECT_ERROR(CheckArchives(Read()), kInvalidInput, message);
  config_["context_tokens"] = 161;
  KVR_EXPECT_ERROR((void)Make(), kInvalidInput, message);
  EXPECT_NE(message.find("context_tokens"), std::string::npos) << message;
}

// Of a prompt's turns, the first, by looking for it in the prompt's text.
std::size_t FirstTurn(const std::string& text) {
  const std::string words = "turn number ";
  return static_cast<std::size_t>(text[text.find(words) + words.size()] - '0');
}

TEST_F(ConversationTest, SlideDropsAsFewTurnsAsNeeded) {
  config_["window"] = "slide";
  config_["context_tokens"] = 64;
  const Prompts prompts = Make();
  constexpr std::size_t kRoom = 64 - 5;
  std::size_t changes = 0;
  for (std::size_t turn = 1; turn < prompts.test.size(); ++turn) {
    const Tokens& tokens = prompts.test[turn].tokens;
    EXPECT_LE(tokens.size(), kRoom);
    const std::size_t first = FirstTurn(prompts.test[turn].text);
    const std::size_t before = FirstTurn(prompts.test[turn - 1].text);
    EXPECT_GE(first, before);
    if (first == before) continue;
    ++changes;
    // One turn more, with its reply and what closes it, would not have fitted.
    const std::size_t dropped =
        tokenizer_.Encode("turn number " + std::to_string(first - 1) + "\n").size() + 5 +
        tokenizer_.Encode("\n").size();
    EXPECT_GT(tokens.size() + dropped, kRoom) << turn;
    EXPECT_FALSE(BeginsWith(tokens, prompts.cached[turn - 1].tokens));
  }
  EXPECT_GE(changes, 3u);
}

TEST_F(ConversationTest, StepDropsDownToItsShareAtOnceAndThenKeepsThePrefix) {
  config_["window"] = "step";
  config_["keep"] = 0.5;
  config_["context_tokens"] = 96;
  const Prompts prompts = Make();
  std::size_t steps = 0, kept = 0;
  for (std::size_t turn = 1; turn < prompts.test.size(); ++turn) {
    const Tokens& tokens = prompts.test[turn].tokens;
    EXPECT_LE(tokens.size(), 96u - 5);
    if (FirstTurn(prompts.test[turn].text) != FirstTurn(prompts.test[turn - 1].text)) {
      ++steps;
      EXPECT_LE(tokens.size(), (96u - 5) / 2);
    } else {
      ++kept;
      EXPECT_TRUE(BeginsWith(tokens, prompts.cached[turn - 1].tokens));
    }
  }
  EXPECT_GE(steps, 1u);
  EXPECT_GT(kept, steps);
}

TEST_F(ConversationTest, ATurnThatFitsNowhereIsRefusedUnderEachRule) {
  for (const char* rule : {"slide", "step"}) {
    config_["window"] = rule;
    config_["context_tokens"] = 12;
    std::string message;
    KVR_EXPECT_ERROR((void)Make(), kInvalidInput, message);
    EXPECT_NE(message.find("turn 1"), std::string::npos) << message;
  }
}

TEST_F(ConversationTest, AnEndOfTextTokenIsLeftToWhatClosesTheReply) {
  config_["template"] = "dialogpt";
  config_["conversations"] = {{{"id", "a"}, {"turns", {"one", "two"}}}};
  const Token end = info_.eos_ids.at(0);
  const auto reply = [&](const Tokens&, int) { return Tokens{40, 41, end}; };
  const Prompts prompts = Make(reply);
  Tokens expected = tokenizer_.Encode("one");
  for (const Token token : {end, Token{40}, Token{41}, end}) expected.push_back(token);
  EXPECT_EQ(prompts.cached.at(0).tokens, expected);
  const Tokens two = tokenizer_.Encode("two");
  expected.insert(expected.end(), two.begin(), two.end());
  expected.push_back(end);
  EXPECT_EQ(prompts.test.at(1).tokens, expected);
}

TEST_F(ConversationTest, UnderAChatTemplateTheTokensAreThoseOfTheRenderedConversation) {
  chat_.emplace(Json::parse(R"({"begin": "", "default_system": "be brief",
      "open_assistant": "reply: ", "roles": {
      "system": {"prefix": "system: ", "suffix": "<|endoftext|>"},
      "user": {"prefix": "user: ", "suffix": "<|endoftext|>"},
      "assistant": {"prefix": "reply: ", "suffix": "<|endoftext|>"}}})"));
  config_["template"] = "chat";
  config_["conversations"] = {{{"id", "a"}, {"turns", {"one", "two"}}}};
  const Tokens said = tokenizer_.Encode("yes");
  const Prompts prompts = Make([&](const Tokens&, int) { return said; });
  const std::vector<text::Message> messages = {
      {"user", "one"}, {"assistant", "yes"}, {"user", "two"}};
  const std::string rendered = chat_->Render(messages, true);
  EXPECT_EQ(prompts.test.at(1).text, rendered);
  EXPECT_EQ(prompts.test.at(1).tokens, tokenizer_.Encode(rendered));
}

TEST_F(ConversationTest, ReadsQuestionFilesListsOfTurnsAndShareGpt) {
  WriteAndRename(folder_.path() / "q.jsonl",
                 R"({"question_id": 81, "category": "x", "turns": ["a", "b"]})"
                 "\n"
                 R"({"question_id": 82, "category": "x", "turns": ["a"], "reference": [1]})"
                 "\n"
                 R"({"question_id": 83, "category": "y", "turns": ["c"]})"
                 "\n");
  config_["conversations"] = "q.jsonl";
  EXPECT_EQ(Read().test_prompts.size(), 4u);
  config_["chain"] = 5;
  EXPECT_EQ(Read().test_prompts.at(2).id, "none/81/3");
  EXPECT_EQ(Read().test_prompts.at(3).id, "none/83/1");  // another category
  config_["turns"] = 2;
  config_["limit"] = 1;
  EXPECT_EQ(Read().test_prompts.size(), 2u);
  for (const char* key : {"chain", "turns", "limit"}) config_.erase(key);

  WriteAndRename(folder_.path() / "s.json", R"([{"id": "z", "conversations": [
      {"from": "human", "value": "hi"}, {"from": "gpt", "value": "ho"},
      {"from": "human", "value": "hi"}]}])");
  config_["conversations"] = "s.json";
  const Config config = Read();
  ASSERT_EQ(config.test_prompts.size(), 2u);
  EXPECT_EQ(config.test_prompts[1].text, "hi");
}

TEST_F(ConversationTest, WhatIsNoConversationIsRefusedWithItsPlace) {
  const auto refusal = [&](const Json& conversations) {
    config_["conversations"] = conversations;
    return Refusal();
  };
  EXPECT_NE(refusal(Json::array()).find("/conversations"), std::string::npos);
  EXPECT_NE(refusal({{{"id", "a"}}}).find("/conversations/0"), std::string::npos);
  EXPECT_NE(refusal({{{"turns", Json::array()}}}).find("at least one turn"), std::string::npos);
  EXPECT_NE(refusal({{{"turns", {1}}}}).find("/conversations/0/turns"), std::string::npos);
  EXPECT_NE(refusal({{{"id", "a"}, {"turns", "x"}}, {{"id", "a"}, {"turns", "x"}}}).find("again"),
            std::string::npos);
  EXPECT_NE(refusal({{{"conversations", {{{"from", "human"}, {"value", 3}}}}}}).find("\"value\""),
            std::string::npos);
}

// Both window rules past the context's end: every cell has the baseline's bits, and finds what a
// plain comparison with the entries that it may see finds.
TEST_F(ConversationTest, EveryTurnOfBothWindowsIsExactAndFindsWhatItsOwnHistoryLeft) {
  config_["window"] = {"slide", "step"};
  config_["context_tokens"] = 72;
  config_["template"] = "raw";
  const Config config = Read();
  CheckArchives(config);
  RunSweep(config, {.folder = folder_.path() / "r"});
  const record::Run run = record::ReadRun(folder_.path() / "r");
  ASSERT_TRUE(run.finished);
  EXPECT_EQ(run.cells.size(), 2u * 8 * 4);
  std::map<std::string, std::int64_t> reused;
  for (const record::Cell& cell : run.cells) {
    ASSERT_TRUE(cell.fidelity && cell.fidelity->exact) << cell.prompt_id;
    EXPECT_EQ(cell.session, "a");
    if (!cell.recycled() || cell.is_null()) continue;
    EXPECT_EQ(cell.reuse_depth, cell.available_depth) << cell.prompt_id;
    EXPECT_LE(cell.reuse_depth, cell.history_tokens) << cell.prompt_id;
    EXPECT_EQ(cell.turn == 1, cell.limited_by == "no_candidate") << cell.prompt_id;
    if (cell.turn == 2) {
      EXPECT_EQ(cell.reuse_depth, cell.history_tokens);
    }
    reused[cell.workload] += cell.reuse_depth;
  }
  EXPECT_GT(reused["step"], reused["slide"]);
}

}  // namespace
}  // namespace kvr::experiment
