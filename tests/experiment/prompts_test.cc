#include "kvr/experiment/prompts.h"

#include <gtest/gtest.h>

#include "testing.h"

namespace kvr::experiment {
namespace {

using testing::TinyModel;

constexpr const char* kHarbour =
    "the harbour master writes every ship into a book its name cargo and hour";

// A cached prompt is the beginning of a user's turn: what closes the turn would end every match.
TEST(PromptsTest, UnderAChatTemplateAPromptThatGoesOnBeginsWithTheCachedOne) {
  const model::ArchiveInfo info = model::ReadArchiveInfo(TinyModel("tiny-gpt2"));
  const text::Tokenizer tokenizer(info.metadata.at("tokenizer"), info.tokenizer_model);
  const std::optional<text::ChatTemplate> chat(Json::parse(R"({"begin": "",
      "default_system": "be brief", "open_assistant": "reply: ", "roles": {
      "system": {"prefix": "system: ", "suffix": ".\n"},
      "user": {"prefix": "user: ", "suffix": ", over.\n"}}})"));
  const engine::PromptContext context{info, tokenizer, chat};
  for (const std::string& text : {std::string("over"), std::string(kHarbour), std::string("a")}) {
    const engine::OpenTurn cached = engine::PrepareOpenTurn(context, text, true);
    EXPECT_EQ(cached.text, "system: be brief.\nuser: " + text);
    EXPECT_GT(cached.opening_tokens, 0u);
    const engine::Prompt prompt =
        engine::PreparePrompt(context, text + " and more", true, false, 1);
    EXPECT_TRUE(prompt.text.starts_with(cached.text)) << prompt.text;
    EXPECT_TRUE(std::equal(cached.tokens.begin(), cached.tokens.end(), prompt.tokens.begin()));
  }
  EXPECT_EQ(engine::PrepareOpenTurn(context, "a", false).opening_tokens, 0u);
}

}  // namespace
}  // namespace kvr::experiment
