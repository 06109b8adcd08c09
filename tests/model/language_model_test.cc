#include "kvr/model/language_model.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <numeric>

#include "kvr/base/file.h"
#include "kvr/model/encoder.h"
#include "kvr/model/runtime.h"
#include "testing.h"

namespace kvr::model {
namespace {

using testing::BitwiseEqual;
using testing::TempFolder;
using testing::TinyModel;

class LanguageModelTest : public ::testing::TestWithParam<const char*> {
 protected:
  LanguageModelTest() { SetUpRuntime(testing::Threads()); }

  static Tokens Ids(int count) {
    Tokens ids(static_cast<std::size_t>(count));
    std::iota(ids.begin(), ids.end(), 7);
    return ids;
  }
};

INSTANTIATE_TEST_SUITE_P(Families, LanguageModelTest, ::testing::Values("tiny-gpt2", "tiny-llama"),
                         [](const auto& which) {
                           return std::string(which.param) == "tiny-gpt2" ? "Gpt2" : "Llama";
                         });

TEST_P(LanguageModelTest, RestartingAtABlockEdgeChangesNoBit) {
  for (const bool kernels : {true, false}) {
    SCOPED_TRACE(kernels);
    LanguageModel model(TinyModel(GetParam()), {.block_tokens = 16, .kernels = kernels});
    const Tokens ids = Ids(41);
    const std::span<const Token> all(ids);
    KvBuffer whole = model.NewBuffer(41), restarted = model.NewBuffer(41);
    (void)model.Prefill(all.subspan(0, 16), 0, whole);
    (void)model.Prefill(all.subspan(16, 16), 16, whole);
    const std::vector<float> expected = model.Prefill(all.subspan(32), 32, whole);
    restarted.CopyFrom(whole, 16);
    (void)model.Prefill(all.subspan(16, 16), 16, restarted);
    EXPECT_TRUE(BitwiseEqual(model.Prefill(all.subspan(32), 32, restarted), expected));
    EXPECT_TRUE(restarted.EqualBits(whole, 0, 41));
  }
}

TEST_P(LanguageModelTest, TheLastRowOfAllLogitsIsPrefills) {
  LanguageModel model(TinyModel(GetParam()), {.block_tokens = 16});
  const Tokens ids = Ids(13);
  KvBuffer a = model.NewBuffer(13), b = model.NewBuffer(13);
  const std::vector<float> last = model.Prefill(ids, 0, a);
  const std::vector<float> all = model.PrefillAllLogits(ids, 0, b);
  ASSERT_EQ(all.size(), 13u * last.size());
  for (std::size_t i = 0; i < last.size(); ++i) {
    EXPECT_NEAR(all[12 * last.size() + i], last[i], 1e-4);
  }
}

TEST_P(LanguageModelTest, DecodingIsCloseToPrefillingAndAttendsToTheBuffer) {
  LanguageModel model(TinyModel(GetParam()), {.block_tokens = 16});
  const Tokens ids = Ids(20);
  const std::span<const Token> all(ids);
  KvBuffer whole = model.NewBuffer(21), stepped = model.NewBuffer(21);
  (void)model.Prefill(all.first(16), 0, whole);
  const std::vector<float> expected = model.Prefill(all.subspan(16), 16, whole);
  (void)model.Prefill(all.first(16), 0, stepped);
  std::vector<float> found;
  for (int i = 16; i < 20; ++i) {
    found = model.Decode(ids[static_cast<std::size_t>(i)], i, stepped);
  }
  double largest = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_NEAR(found[i], expected[i], 1e-3);
    largest = std::max(largest, std::abs(static_cast<double>(found[i])));
  }
  EXPECT_GT(largest, 0.01);
  stepped.Clear(0, 16);
  const std::vector<float> without = model.Decode(ids[19], 19, stepped);
  EXPECT_FALSE(BitwiseEqual(without, found));
}

TEST_P(LanguageModelTest, WhatLiesBehindTheLastTokenIsNotRead) {
  LanguageModel model(TinyModel(GetParam()), {.block_tokens = 16});
  const Tokens ids = Ids(21);
  const std::span<const Token> all(ids);
  KvBuffer clean = model.NewBuffer(21), stale = model.NewBuffer(21);
  // Something else's keys and values everywhere.
  Tokens other(21, 3);
  (void)model.Prefill({other.data(), 16}, 0, stale);
  (void)model.Prefill({other.data() + 16, 5}, 16, stale);
  for (KvBuffer* buffer : {&clean, &stale}) (void)model.Prefill(all.first(16), 0, *buffer);
  EXPECT_TRUE(BitwiseEqual(model.Prefill(all.subspan(16), 16, clean),
                           model.Prefill(all.subspan(16), 16, stale)));
}

TEST_P(LanguageModelTest, TheProbeReportsWhatItTried) {
  LanguageModel model(TinyModel(GetParam()), {.block_tokens = 64});
  const Probe probe = model.RunProbe();
  EXPECT_GT(probe.cuts, 0);
  EXPECT_EQ(probe.exact, probe.first_bad == 0);
}

TEST_P(LanguageModelTest, AnIdOutsideTheVocabularyIsRefused) {
  LanguageModel model(TinyModel(GetParam()), {.block_tokens = 16});
  KvBuffer buffer = model.NewBuffer(8);
  std::string message;
  for (const Token id : {model.info().vocab, -1}) {
    KVR_EXPECT_ERROR((void)model.Prefill(Tokens{1, id, 2}, 0, buffer), kInvalidInput, message);
    KVR_EXPECT_ERROR((void)model.Decode(id, 0, buffer), kInvalidInput, message);
    EXPECT_NE(message.find(std::to_string(id)), std::string::npos) << message;
  }
}

TEST(DeviceTest, ADeviceThatIsNotThereOrUnknownIsNamed) {
  SetUpRuntime(testing::Threads());
  std::string message;
  for (const char* device : {"cuda:99", "tpu", "cuda:", "cuda:x", "cuda:-1", "", "cud"}) {
    KVR_EXPECT_ERROR(LanguageModel(TinyModel("tiny-gpt2"), {.device = device}), kInvalidInput,
                     message);
    EXPECT_NE(message.find("'" + std::string(device) + "'"), std::string::npos) << message;
  }
  EXPECT_EQ(LanguageModel(TinyModel("tiny-gpt2"), {}).device(), "cpu");
}

TEST(EncoderTest, EmbeddingsHaveUnitLengthAndDependOnTheText) {
  SetUpRuntime(testing::Threads());
  Encoder encoder(TinyModel("tiny-bert"));
  const std::vector<float> a = encoder.Embed(Tokens{2, 10, 11, 3}), b = encoder.Embed(Tokens{2, 3});
  double norm = 0;
  for (const float x : a) norm += static_cast<double>(x) * x;
  EXPECT_NEAR(norm, 1, 1e-5);
  EXPECT_FALSE(BitwiseEqual(a, b));
}

}  // namespace
}  // namespace kvr::model
