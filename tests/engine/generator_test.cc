// What a generator does; what recycling changes is in recycling_test.cc.
#include "kvr/engine/generator.h"

#include <algorithm>
#include <csignal>

#include "engine/fixture.h"
#include "kvr/base/interrupt.h"
#include "kvr/engine/prompt.h"

namespace kvr::engine {
namespace {

INSTANTIATE_TEST_SUITE_P(Families, GeneratorTest,
                         ::testing::Values(Where{"Gpt2", "tiny-gpt2", "cpu"},
                                           Where{"Llama", "tiny-llama", "cpu"},
                                           Where{"LlamaBf16", "tiny-llama-bf16", "cpu"},
                                           Where{"LlamaInt8", "tiny-llama-int8", "cpu"},
                                           Where{"LlamaTorch", "tiny-llama", "cpu", false},
                                           Where{"Gpt2Cuda", "tiny-gpt2", "cuda"},
                                           Where{"LlamaCuda", "tiny-llama", "cuda"}),
                         [](const auto& which) { return which.param.name; });

TEST_P(GeneratorTest, AnInterruptEndsDecodingAndSavingWithinAStep) {
  CatchInterrupts();
  const std::string text = RandomText(40, 5);
  std::string message;
  int tokens = 0;
  Request request{.text = text,
                  .tokens = generator_->tokenizer().Encode(text),
                  .max_new_tokens = 30,
                  .stop_at_eos = false};
  request.on_token = [&](Token) {
    if (++tokens == 3) (void)std::raise(SIGINT);
  };
  KVR_EXPECT_ERROR((void)generator_->Generate(request), kInterrupted, message);
  EXPECT_EQ(tokens, 3);
  generator_->ForgetBuffer();
  KVR_EXPECT_ERROR((void)generator_->Save(text), kInterrupted, message);
  ForgetInterrupt();
  EXPECT_TRUE(generator_->store()->List().empty());
  (void)generator_->Save(text);
}

TEST_P(GeneratorTest, EachNewTokenHasItsTime) {
  const Generation generation = Baseline("The harbour master writes");
  ASSERT_EQ(generation.token_ms.size(), generation.tokens.size());
  EXPECT_EQ(generation.token_ms.front(), generation.timings.ttft_ms);
  EXPECT_EQ(generation.token_ms.back(), generation.timings.total_ms);
  EXPECT_TRUE(std::is_sorted(generation.token_ms.begin(), generation.token_ms.end()));
}

TEST_P(GeneratorTest, ASavedConversationIsExactAtItsNextTurn) {
  std::string conversation = "The harbour master writes every ship";
  for (int turn = 0; turn < 3; ++turn) {
    const Generation answer = Recycled(conversation);
    conversation += generator_->Text(answer.tokens);
    const SaveResult saved = generator_->Save(conversation);
    EXPECT_LE(saved.prefilled, saved.tokens);
    conversation += " And then?";
    const Generation recycled = Recycled(conversation);
    EXPECT_EQ(recycled.outcome, Outcome::kHit);
    EXPECT_GT(recycled.reuse_depth, 0);
    if (recycled.exact_claimed) ExpectEqual(recycled, Baseline(conversation));
  }
}

// Design law 1: nothing that descends from values that a codec has changed is stored.
TEST_P(GeneratorTest, SavingAfterALossyRestoreStoresWhatAFreshComputationWould) {
  const std::string text = RandomText(60, 9), prompt = text + " and so on", next = prompt + ", so.";
  for (const cache::Codec lossy : {cache::CodecFromString("bf16"), cache::CodecFromString("fp16"),
                                   cache::CodecFromString("int8")}) {
    for (const cache::Codec target : {cache::Codec::kFp32, lossy}) {
      SCOPED_TRACE(std::string(cache::ToString(lossy)) + " to " + cache::ToString(target));
      TempFolder before, after, fresh;
      generator_->OpenStore(before.path(), {}, lossy);
      generator_->ForgetBuffer();
      generator_->Save(text, lossy);
      const Generation recycled = Recycled(prompt, Policy::kPrefix, cache::Match::kToken, lossy);
      ASSERT_EQ(recycled.outcome, Outcome::kHit);
      ASSERT_GE(recycled.reuse_depth, 2 * kBlock);
      generator_->OpenStore(after.path(), {}, target);
      const SaveResult saved = generator_->Save(next, target);
      EXPECT_EQ(saved.prefilled, saved.tokens);
      const auto stored = Blocks(*generator_->store(target));

      generator_->OpenStore(fresh.path(), {}, target);
      generator_->ForgetBuffer();
      generator_->Save(next, target);
      EXPECT_EQ(stored, Blocks(*generator_->store(target)));
      // And what is resident now is exact again: it can be saved without another prefill.
      EXPECT_EQ(generator_->Save(next, target).prefilled, 0);
    }
  }
}

TEST_P(GeneratorTest, SavingAfterGeneratingPrefillsOnlyWhatIsNew) {
  const std::string text = RandomText(60, 3);
  const Generation answer = Baseline(text);
  EXPECT_EQ(answer.tokens.size(), 6u);
  const SaveResult saved = generator_->Save(text + " so.");
  EXPECT_LT(saved.prefilled, kBlock + 4);
  // What was saved on top of the resident prompt is what a fresh process would have computed.
  const std::string next = text + " so. More";
  const Generation recycled = Recycled(next);
  EXPECT_EQ(recycled.outcome, Outcome::kHit);
  if (recycled.exact_claimed) ExpectEqual(recycled, Baseline(next));
}

TEST_P(GeneratorTest, TeacherForcingFollowsTheGivenTokens) {
  const std::string text = "Quotes like this";
  const Generation free = Baseline(text);
  Request request = MakeRequest(text, Arm::kBaseline);
  request.forced = free.tokens;
  ExpectEqual(generator_->Generate(request), free);
  request.forced = {5, 6, 7};
  EXPECT_EQ(generator_->Generate(request).tokens, request.forced);
}

TEST_P(GeneratorTest, RefusesAnEmptyPromptAndOneThatPassesTheContext) {
  std::string message;
  Request request = MakeRequest("", Arm::kBaseline);
  KVR_EXPECT_ERROR(generator_->Generate(request), kInvalidInput, message);
  request = MakeRequest(RandomText(900, 5), Arm::kBaseline);
  KVR_EXPECT_ERROR(generator_->Generate(request), kInvalidInput, message);
  EXPECT_NE(message.find(std::to_string(request.tokens.size())), std::string::npos);
  EXPECT_NE(message.find(std::to_string(generator_->info().context_tokens)), std::string::npos);
  const Prompt cut = PreparePrompt(*generator_, request.text, false, true, 6);
  EXPECT_EQ(cut.tokens.size() + 6, static_cast<std::size_t>(generator_->info().context_tokens));
  EXPECT_EQ(cut.truncated_tokens, static_cast<int>(request.tokens.size() - cut.tokens.size()));
  request.tokens = cut.tokens;
  EXPECT_EQ(generator_->Generate(request).tokens.size(), 6u);
}

TEST(PaddedVocabularyTest, AnIdThatTheTokenizerDoesNotHaveIsNeverDrawn) {
  model::SetUpRuntime(testing::Threads());
  Generator generator({.model = TinyModel("tiny-padded"), .language_model = {.block_tokens = 16}});
  const int ids = generator.tokenizer().vocab_size();
  ASSERT_LT(ids, generator.info().vocab);
  for (const double temperature : {0.0, 1.5}) {
    Request request{.tokens = {1, 2, 3},
                    .max_new_tokens = 60,
                    .sampling = {.temperature = temperature, .seed = 3},
                    .stop_at_eos = false};
    const Generation generation = generator.Generate(request);
    for (const Token token : generation.tokens) EXPECT_LT(token, ids);
    (void)generator.Text(generation.tokens);
  }
}

}  // namespace
}  // namespace kvr::engine
