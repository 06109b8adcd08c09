// What the generator's tests share: a generator of each family and kind of arithmetic, with a store
// of its own. generator_test.cc says which.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <memory>
#include <random>
#include <string>

#include "kvr/base/file.h"
#include "kvr/engine/generator.h"
#include "kvr/model/runtime.h"
#include "testing.h"

namespace kvr::engine {

using testing::BitwiseEqual;
using testing::TempFolder;
using testing::TinyModel;

inline constexpr int kBlock = 16;

struct Where {
  const char* name;
  const char* model;
  const char* device;
  bool kernels = true;
};
inline void PrintTo(const Where& where, std::ostream* out) { *out << where.name; }

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

}  // namespace kvr::engine
