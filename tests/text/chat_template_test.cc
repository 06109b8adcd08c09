#include "kvr/text/chat_template.h"

#include <gtest/gtest.h>

#include <array>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "kvr/base/error.h"

namespace kvr::text {
namespace {

using nlohmann::json;
using Conversation = std::vector<Message>;

json ChatMl() {
  const auto role = [](const std::string& name) {
    return json{{"prefix", "<|im_start|>" + name + "\n"}, {"suffix", "<|im_end|>\n"}};
  };
  return {{"begin", ""},
          {"default_system", "Be kind."},
          {"open_assistant", "<|im_start|>assistant\n"},
          {"roles",
           {{"system", role("system")}, {"user", role("user")}, {"assistant", role("assistant")}}}};
}

TEST(ChatTemplateTest, TheDefaultSystemMessageGoesFirst) {
  const ChatTemplate chat(ChatMl());
  EXPECT_EQ(chat.Render(Conversation{{"user", "Hi"}}, true),
            "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
            "<|im_start|>assistant\n");
}

TEST(ChatTemplateTest, AGivenSystemMessageReplacesTheDefault) {
  const ChatTemplate chat(ChatMl());
  EXPECT_EQ(
      chat.Render(Conversation{{"system", "Be brief."}, {"user", "Hi"}, {"assistant", " Yo "}},
                  false),
      "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
      "<|im_start|>assistant\n Yo <|im_end|>\n");
}

TEST(ChatTemplateTest, ALaterTurnExtendsTheEarlierText) {
  const ChatTemplate chat(ChatMl());
  const std::string first = chat.Render(Conversation{{"user", "a"}}, true);
  const std::string second =
      chat.Render(Conversation{{"user", "a"}, {"assistant", "b"}, {"user", "c"}}, true);
  EXPECT_TRUE(second.starts_with(first + "b<|im_end|>\n"));
}

TEST(ChatTemplateTest, AnEmptyConversationHasNoSystemMessage) {
  EXPECT_EQ(ChatTemplate(ChatMl()).Render({}, true), "<|im_start|>assistant\n");
}

TEST(ChatTemplateTest, TurnsCanEndInAToken) {
  const ChatTemplate chat(
      json::parse(R"({"begin": "^", "default_system": null, "open_assistant": "",
      "roles": {"user": {"prefix": "", "suffix": "<eos>"},
                "assistant": {"prefix": "", "suffix": "<eos>"}}})"));
  EXPECT_EQ(chat.Render(Conversation{{"user", "a"}, {"assistant", "b"}}, true), "^a<eos>b<eos>");
}

TEST(ChatTemplateTest, AnUnknownRoleIsRefusedAndTheKnownAreNamed) {
  try {
    (void)ChatTemplate(ChatMl()).Render(Conversation{{"wizard", "Hi"}}, false);
    ADD_FAILURE() << "was accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), Error::Kind::kInvalidInput);
    EXPECT_NE(std::string(error.what()).find("'assistant', 'system', 'user'"), std::string::npos)
        << error.what();
  }
}

TEST(ChatTemplateTest, ABadSpecIsCorrupt) {
  std::vector<json> bad = {json(nullptr), json::array(), json::object(), ChatMl(),
                           ChatMl(),      ChatMl(),      ChatMl()};
  bad[3].erase("open_assistant");
  bad[4]["roles"]["user"].erase("suffix");
  bad[5]["default_system"] = 3;
  bad[6]["roles"].erase("system");  // and has a default system message
  for (const json& spec : bad) {
    try {
      ChatTemplate chat(spec);
      ADD_FAILURE() << spec << " was accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), Error::Kind::kCorrupt);
    }
  }
}

TEST(ChatTemplateTest, WhatTheTokenizerAddsIsNotWrittenASecondTime) {
  const auto spec =
      nlohmann::json::parse(R"({"begin": "<s>", "strip": "<s>", "default_system": null,
      "open_assistant": "A:", "roles": {"user": {"prefix": "<s>Q:", "suffix": "\n"}}})");
  const std::array turns = {Message{"user", "one"}, Message{"user", "two"}};
  EXPECT_EQ(ChatTemplate(spec).Render(turns, true), "<s>Q:one\n<s>Q:two\nA:");
  auto other = spec;
  other["begin"] = "";
  EXPECT_EQ(ChatTemplate(other).Render(turns, false), "Q:one\n<s>Q:two\n");
  other["strip"] = "";
  EXPECT_EQ(ChatTemplate(other).Render(turns, false), "<s>Q:one\n<s>Q:two\n");
}

}  // namespace
}  // namespace kvr::text
