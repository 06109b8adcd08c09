#include "kvr/experiment/fidelity.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <optional>

#include "kvr/model/runtime.h"
#include "testing.h"

namespace kvr::experiment {

using namespace record;
namespace {

TEST(KlDivergenceTest, IsZeroForEqualRowsAndShiftInvariant) {
  const std::array<float, 3> p = {1, 2, 3}, shifted = {101, 102, 103};
  EXPECT_DOUBLE_EQ(KlDivergence(p, p), 0);
  EXPECT_NEAR(KlDivergence(p, shifted), 0, 1e-6);
}

TEST(KlDivergenceTest, TwoOutcomesByHand) {
  // p = (1/2, 1/2), q = (3/4, 1/4): KL = ln(2/3)/2 + ln(2)/2.
  const std::array<float, 2> p = {0, 0};
  const std::array<float, 2> q = {std::log(3.0F), 0};
  EXPECT_NEAR(KlDivergence(p, q), 0.5 * std::log(2.0 / 3) + 0.5 * std::log(2.0), 1e-6);
}

TEST(RougeLTest, ByHand) {
  EXPECT_DOUBLE_EQ(RougeL("The cat sat.", "the CAT sat").value(), 1);
  // LCS of (police killed the gunman) and (police kill the gunman): three of four and four.
  EXPECT_DOUBLE_EQ(RougeL("police killed the gunman", "police kill the gunman").value(), 0.75);
  EXPECT_DOUBLE_EQ(RougeL("a b c", "d e").value(), 0);
  EXPECT_DOUBLE_EQ(RougeL("", "word").value(), 0);
}

TEST(RougeLTest, TwoTextsWithoutWordsAreNotMeasured) {
  EXPECT_EQ(RougeL("", ""), std::nullopt);
  EXPECT_EQ(RougeL("", "..."), std::nullopt);
}

class MeasureFidelityTest : public ::testing::Test {
 protected:
  MeasureFidelityTest() {
    model::SetUpRuntime(1);
    generator_.emplace(engine::Generator::Options{.model = testing::TinyModel("tiny-gpt2"),
                                                  .encoder = testing::TinyModel("tiny-bert"),
                                                  .language_model = {.block_tokens = 16}});
    request_.text = "The harbour master";
    request_.tokens = generator_->tokenizer().Encode(request_.text);
    request_.max_new_tokens = 4;
    request_.stop_at_eos = false;
    request_.keep_logits = true;
  }

  std::optional<engine::Generator> generator_;
  engine::Request request_;
};

TEST_F(MeasureFidelityTest, TwoEmptyRepliesAreNotMeasured) {
  request_.forced = {generator_->info().eos_ids.at(0)};
  const engine::Generation reply = generator_->Generate(request_);
  ASSERT_EQ(generator_->Text(reply.tokens), "");
  request_.forced.clear();
  const Fidelity fidelity = MeasureFidelity(*generator_, request_, reply, reply, true);
  EXPECT_TRUE(fidelity.exact);
  EXPECT_EQ(fidelity.semantic, "empty replies");
  EXPECT_EQ(fidelity.rouge_l, std::nullopt);
  EXPECT_EQ(fidelity.cosine, std::nullopt);
}

TEST_F(MeasureFidelityTest, ALongerBaselineIsComparedUpToWhatWasAskedFor) {
  const engine::Generation baseline = generator_->Generate(request_);
  request_.max_new_tokens = 2;
  const engine::Generation shorter = generator_->Generate(request_);
  const Fidelity fidelity = MeasureFidelity(*generator_, request_, baseline, shorter, true);
  EXPECT_TRUE(fidelity.exact);
  EXPECT_EQ(fidelity.first_divergence, std::nullopt);
  EXPECT_EQ(fidelity.compared_tokens, 2);
}

}  // namespace
}  // namespace kvr::experiment
