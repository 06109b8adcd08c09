// The laws on tiny models: recycled equals baseline, bit for bit, wherever that is claimed.
#include "kvr/engine/generator.h"

#include <gtest/gtest.h>

#include <cmath>
#include <csignal>
#include <fstream>
#include <map>
#include <numeric>
#include <random>

#include "kvr/base/file.h"
#include "kvr/base/interrupt.h"
#include "kvr/engine/prompt.h"
#include "kvr/model/runtime.h"
#include "testing.h"

namespace kvr::engine {
namespace {

using testing::BitwiseEqual;
using testing::TempFolder;
using testing::TinyModel;

constexpr int kBlock = 16;

struct Where {
  const char* name;
  const char* model;
  const char* device;
  bool kernels = true;
};
void PrintTo(const Where& where, std::ostream* out) { *out << where.name; }

class GeneratorTest : public ::testing::TestWithParam<Where> {
 protected:
  void SetUp() override {
    model::SetUpRuntime(testing::Threads());
    const Generator::Options options = {
        .model = TinyModel(GetParam().model),
        .encoder = TinyModel("tiny-bert"),
        .language_model = {
            .block_tokens = kBlock, .device = GetParam().device, .kernels = GetParam().kernels}};
    try {
      generator_ = std::make_unique<Generator>(options);
    } catch (const Error& error) {
      if (options.language_model.device == "cpu" || error.kind() != Error::Kind::kInvalidInput)
        throw;
      GTEST_SKIP() << "NOT TESTED: " << error.what();
    }
    generator_->OpenStore(folder_.path(), {});
  }

  // Text whose tokens are its characters, more or less: no two runs of it are alike.
  static std::string RandomText(std::size_t characters, unsigned seed) {
    std::mt19937 random(seed);
    std::string text;
    while (text.size() < characters) text += static_cast<char>('A' + random() % 26);
    return text;
  }

  // The text of the prompt's first `count` tokens; tiny vocabularies decode to whole characters.
  std::string TextOf(const Tokens& tokens, std::size_t count) const {
    return generator_->tokenizer().Decode({tokens.data(), count});
  }

  Request MakeRequest(const std::string& text, Arm arm, Policy policy = Policy::kPrefix,
                      cache::Match match = cache::Match::kToken,
                      cache::Codec codec = cache::Codec::kFp32) {
    Request request;
    request.text = text;
    request.tokens = generator_->tokenizer().Encode(text);
    request.arm = arm;
    request.reuse = {.policy = policy, .match = match, .codec = codec};
    request.max_new_tokens = 6;
    request.stop_at_eos = false;
    request.keep_logits = true;
    return request;
  }

  Generation Baseline(const std::string& text) {
    return generator_->Generate(MakeRequest(text, Arm::kBaseline));
  }

  Generation Recycled(const std::string& text, const cache::View& view) {
    Request request = MakeRequest(text, Arm::kRecycled);
    request.view = &view;
    return generator_->Generate(request);
  }

  Generation Recycled(const std::string& text, Policy policy = Policy::kPrefix,
                      cache::Match match = cache::Match::kToken,
                      cache::Codec codec = cache::Codec::kFp32) {
    const cache::View view = generator_->store(codec)->MakeView();
    Request request = MakeRequest(text, Arm::kRecycled, policy, match, codec);
    request.view = &view;
    return generator_->Generate(request);
  }

  // Names and contents of a store's blocks.
  static std::map<std::string, std::string> Blocks(const cache::Store& store) {
    std::map<std::string, std::string> blocks;
    for (const auto& file :
         std::filesystem::recursive_directory_iterator(store.folder() / "blocks")) {
      if (file.is_regular_file()) blocks[file.path().filename()] = ReadFile(file.path());
    }
    return blocks;
  }

  static void ExpectEqual(const Generation& recycled, const Generation& baseline) {
    EXPECT_EQ(recycled.tokens, baseline.tokens);
    ASSERT_EQ(recycled.logits.size(), baseline.logits.size());
    for (std::size_t i = 0; i < baseline.logits.size(); ++i) {
      EXPECT_TRUE(BitwiseEqual(recycled.logits[i], baseline.logits[i])) << "step " << i;
    }
  }

  TempFolder folder_;
  std::unique_ptr<Generator> generator_;
};

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

// Not the longest candidate's, and not that of the one with most tokens in common.
TEST_P(GeneratorTest, OnAMissTheSimilarityIsTheNearestCandidates) {
  const std::string near = "Ships are written into the book by the harbour master.";
  const std::string far = "The harbour " + RandomText(60, 5);
  const std::string prompt = "The harbour master writes ships into the book.";
  generator_->Save(near);
  generator_->Save(far);
  const auto embedding = generator_->Embed(prompt).values;
  const auto cosine = [&](const std::string& text) {
    const auto other = generator_->Embed(text).values;
    return std::inner_product(embedding.begin(), embedding.end(), other.begin(), 0.0F);
  };
  ASSERT_GT(cosine(near), cosine(far));
  const Generation miss = Recycled(prompt, Policy::kEmbedding, cache::Match::kWhole);
  ASSERT_EQ(miss.outcome, Outcome::kMiss);
  ASSERT_TRUE(miss.similarity.has_value());
  EXPECT_NEAR(*miss.similarity, cosine(near), 1e-5);
  // On a hit it is the used entry's, whoever is nearer.
  const std::string used = TextOf(generator_->tokenizer().Encode(prompt), 6);
  generator_->Save(used);
  const Generation hit = Recycled(prompt, Policy::kEmbedding, cache::Match::kWhole);
  ASSERT_EQ(hit.outcome, Outcome::kHit);
  EXPECT_NEAR(*hit.similarity, cosine(used), 1e-5);
}

TEST_P(GeneratorTest, EachNewTokenHasItsTime) {
  const Generation generation = Baseline("The harbour master writes");
  ASSERT_EQ(generation.token_ms.size(), generation.tokens.size());
  EXPECT_EQ(generation.token_ms.front(), generation.timings.ttft_ms);
  EXPECT_EQ(generation.token_ms.back(), generation.timings.total_ms);
  EXPECT_TRUE(std::is_sorted(generation.token_ms.begin(), generation.token_ms.end()));
}

TEST_P(GeneratorTest, RecycledEqualsBaselineAtEveryDepthWhereTheProbeHolds) {
  const std::string text = RandomText(75, 1);
  const Tokens tokens = generator_->tokenizer().Encode(text);
  ASSERT_GT(tokens.size(), 3u * kBlock);
  const Generation baseline = Baseline(text);
  // The program's own kernels leave it no choice.
  ASSERT_TRUE(generator_->probe().exact || generator_->language_model().kernel_path() == "torch");
  if (!generator_->probe().exact) GTEST_SKIP() << "the probe does not hold on this machine";
  for (std::size_t depth = 1; depth < tokens.size(); ++depth) {
    SCOPED_TRACE(depth);
    TempFolder folder;
    generator_->OpenStore(folder.path(), {});
    generator_->ForgetBuffer();
    generator_->Save(Tokens(tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(depth)));
    const Generation recycled = Recycled(text);
    EXPECT_EQ(recycled.reuse_depth, static_cast<int>(depth));
    EXPECT_EQ(recycled.outcome, Outcome::kHit);
    EXPECT_TRUE(recycled.exact_claimed);
    ExpectEqual(recycled, baseline);
  }
}

TEST_P(GeneratorTest, RecycledEqualsBaselineAtEveryBlockDepthAlways) {
  const std::string text = RandomText(75, 2);
  generator_->Save(text);
  const Tokens tokens = generator_->tokenizer().Encode(text);
  int hits = 0;
  for (std::size_t end = kBlock + 1; end <= tokens.size(); ++end) {
    const std::string prompt = TextOf(tokens, end);
    SCOPED_TRACE(end);
    const Generation recycled = Recycled(prompt, Policy::kPrefix, cache::Match::kBlock);
    EXPECT_EQ(recycled.reuse_depth % kBlock, 0);
    EXPECT_TRUE(recycled.exact_claimed);
    hits += recycled.reuse_depth > 0 ? 1 : 0;
    ExpectEqual(recycled, Baseline(prompt));
  }
  EXPECT_GT(hits, kBlock);
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

TEST_P(GeneratorTest, ALossyHitClaimsNothingAndDriftsALittle) {
  const std::string text = RandomText(60, 8), prompt = text + " and so on";
  const Generation baseline = Baseline(prompt);
  const auto [low, high] =
      std::minmax_element(baseline.logits[0].begin(), baseline.logits[0].end());
  for (const cache::Codec codec : {cache::CodecFromString("bf16"), cache::CodecFromString("fp16"),
                                   cache::CodecFromString("int8")}) {
    SCOPED_TRACE(cache::ToString(codec));
    generator_->OpenStore(folder_.path(), {}, codec);
    generator_->ForgetBuffer();
    generator_->Save(text, codec);
    for (const cache::Match match : {cache::Match::kToken, cache::Match::kBlock}) {
      Request request = MakeRequest(prompt, Arm::kRecycled, Policy::kPrefix, match, codec);
      const cache::View view = generator_->store(codec)->MakeView();
      request.view = &view;
      request.forced = baseline.tokens;
      const Generation recycled = generator_->Generate(request);
      EXPECT_EQ(recycled.outcome, Outcome::kHit);
      EXPECT_GE(recycled.reuse_depth, 2 * kBlock);
      EXPECT_FALSE(recycled.exact_claimed);
      EXPECT_EQ(
          recycled.restored_bytes % cache::StoredBytes(codec, generator_->cache_key().shape, 1),
          0u);
      // Were the logits equal, it would not have been the codec's numbers that were restored.
      double largest = 0;
      for (std::size_t step = 0; step < baseline.logits.size(); ++step) {
        for (std::size_t i = 0; i < baseline.logits[step].size(); ++i) {
          largest = std::max(largest,
                             std::abs(double{recycled.logits[step][i]} - baseline.logits[step][i]));
        }
      }
      EXPECT_GT(largest, 0);
      // With int8 weights the activations are rounded too, which a small change can tip over.
      const bool fine =
          codec == cache::CodecFromString("fp16") && generator_->info().precision != "int8";
      EXPECT_LT(largest, (*high - *low) * (fine ? 0.01 : 0.1));
    }
    // A miss computes everything, whatever the store: the claim stands.
    const Generation miss = Recycled("Quotes", Policy::kPrefix, cache::Match::kToken, codec);
    EXPECT_EQ(miss.outcome, Outcome::kMiss);
    EXPECT_TRUE(miss.exact_claimed);
    ExpectEqual(miss, Baseline("Quotes"));
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

TEST_P(GeneratorTest, WholeRefusesWhatTokenReuses) {
  generator_->Save("The harbour master writes every ship into a book.");
  const std::string other = "The harbour master writes poems";
  EXPECT_EQ(Recycled(other, Policy::kEmbedding, cache::Match::kWhole).outcome, Outcome::kMiss);
  const Generation token = Recycled(other, Policy::kEmbedding, cache::Match::kToken);
  EXPECT_EQ(token.outcome, Outcome::kHit);
  EXPECT_EQ(token.limited_by, cache::LimitedBy::kDiverged);
  EXPECT_TRUE(token.similarity.has_value());
}

TEST_P(GeneratorTest, OneTokenAlwaysRuns) {
  const std::string text = "Numbers such as 1, 22 and 4096";
  generator_->Save(text);
  const Generation recycled = Recycled(text);
  EXPECT_EQ(recycled.reuse_depth,
            static_cast<int>(generator_->tokenizer().Encode(text).size()) - 1);
  EXPECT_EQ(recycled.limited_by, cache::LimitedBy::kLastToken);
  if (recycled.exact_claimed) ExpectEqual(recycled, Baseline(text));
}

TEST_P(GeneratorTest, ADamagedBlockShortensTheHitAndChangesNothingElse) {
  const std::string text = RandomText(60, 4);
  generator_->Save(text);
  // Damage one block's payload: the biggest hash, whichever block that is.
  std::filesystem::path victim;
  for (const auto& file :
       std::filesystem::recursive_directory_iterator(generator_->store()->folder() / "blocks")) {
    if (file.is_regular_file()) victim = std::max(victim, file.path());
  }
  std::fstream file(victim, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(-1, std::ios::end);
  file.put('\x7f');
  file.close();
  const std::string prompt = text + "Q";
  const cache::View view = generator_->store()->MakeView();
  const Generation recycled = Recycled(prompt, view);
  EXPECT_LT(recycled.reuse_depth, static_cast<int>(generator_->tokenizer().Encode(text).size()));
  EXPECT_EQ(recycled.limited_by, cache::LimitedBy::kCorrupt);
  if (recycled.exact_claimed) ExpectEqual(recycled, Baseline(prompt));
  // A view from before the block was set aside plans with it again.
  const Generation again = Recycled(prompt, view);
  EXPECT_EQ(again.reuse_depth, recycled.reuse_depth);
  EXPECT_EQ(again.limited_by, cache::LimitedBy::kEvicted);
  EXPECT_EQ(again.tokens, recycled.tokens);
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

TEST_P(GeneratorTest, PromptsAtBlockEdgesRun) {
  const std::string text = RandomText(70, 6);
  const Tokens tokens = generator_->tokenizer().Encode(text);
  generator_->Save(text);
  for (const std::size_t count : {std::size_t{1}, std::size_t{kBlock - 1}, std::size_t{kBlock},
                                  std::size_t{kBlock + 1}, std::size_t{2 * kBlock}}) {
    SCOPED_TRACE(count);
    Request request = MakeRequest(text, Arm::kBaseline);
    request.tokens.assign(tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(count));
    request.text = TextOf(tokens, count);
    const Generation baseline = generator_->Generate(request);
    const cache::View view = generator_->store()->MakeView();
    request.arm = Arm::kRecycled;
    request.view = &view;
    const Generation recycled = generator_->Generate(request);
    EXPECT_EQ(recycled.reuse_depth, static_cast<int>(count) - 1);
    if (recycled.exact_claimed) ExpectEqual(recycled, baseline);
  }
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
