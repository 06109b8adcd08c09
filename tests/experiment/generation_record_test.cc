#include "kvr/experiment/generation_record.h"

#include <gtest/gtest.h>

#include "kvr/model/runtime.h"
#include "testing.h"

namespace kvr::experiment {
namespace {

class GenerationRecordTest : public ::testing::Test {
 protected:
  GenerationRecordTest() {
    model::SetUpRuntime(1);
    generator_.emplace(engine::Generator::Options{.model = testing::TinyModel("tiny-gpt2"),
                                                  .language_model = {.block_tokens = 16}});
    generation_.tokens = generator_->tokenizer().Encode("ships");
    generation_.timings = {.embed_ms = 1,
                           .lookup_ms = 2,
                           .restore_ms = 3,
                           .prefill_ms = 4,
                           .ttft_ms = 10,
                           .decode_ms = 5,
                           .total_ms = 15};
    generation_.outcome = engine::Outcome::kHit;
    generation_.reuse_depth = 2;
    generation_.restored_bytes = 64;
    request_.tokens = {1, 2, 3};
    request_.arm = engine::Arm::kRecycled;
  }

  record::Cell Described() {
    record::Cell cell;
    Describe(*generator_, request_, generation_, &cell);
    return cell;
  }

  std::optional<engine::Generator> generator_;
  engine::Request request_;
  engine::Generation generation_;
};

TEST_F(GenerationRecordTest, AHitHasItsDepthTimesTokensAndText) {
  request_.reuse.policy = engine::Policy::kEmbedding;
  generation_.similarity = 0.5F;
  generation_.entry = Digest{0xAB};
  generation_.limited_by = cache::LimitedBy::kDiverged;
  generation_.resident_fraction = 1;
  const record::Cell cell = Described();
  EXPECT_EQ(cell.outcome, "hit");
  EXPECT_EQ(cell.limited_by, cache::ToString(cache::LimitedBy::kDiverged));
  EXPECT_TRUE(cell.exact_claimed);
  EXPECT_EQ(cell.prompt_tokens, 3);
  EXPECT_EQ(cell.reuse_depth, 2);
  EXPECT_EQ(cell.similarity, 0.5);
  EXPECT_EQ(cell.entry.value_or("").substr(0, 4), "ab00");
  EXPECT_EQ(cell.page_cache, "warm");
  EXPECT_EQ(cell.restored_bytes, 64);
  EXPECT_EQ(cell.embed_ms, 1);
  EXPECT_EQ(cell.lookup_ms, 2);
  EXPECT_EQ(cell.restore_ms, 3);
  EXPECT_EQ(cell.prefill_ms, 4);
  EXPECT_EQ(cell.ttft_ms, 10);
  EXPECT_EQ(cell.decode_ms, 5);
  EXPECT_EQ(cell.total_ms, 15);
  EXPECT_EQ(cell.new_tokens, static_cast<std::int64_t>(generation_.tokens.size()));
  EXPECT_EQ(cell.tokens, generation_.tokens);
  EXPECT_EQ(cell.text, "ships");
}

TEST_F(GenerationRecordTest, APhaseThatDidNotRunIsNull) {
  request_.reuse.policy = engine::Policy::kPrefix;
  generation_.timings.restore_ms = 0;
  EXPECT_FALSE(Described().embed_ms);
  EXPECT_EQ(Described().lookup_ms, 2);
  EXPECT_FALSE(Described().restore_ms);
  EXPECT_FALSE(Described().similarity || Described().entry || Described().limited_by);
  request_.reuse.policy = engine::Policy::kOff;
  EXPECT_FALSE(Described().lookup_ms || Described().restored_bytes);
  request_ = {.tokens = {1}};  // the baseline
  EXPECT_FALSE(Described().lookup_ms || Described().restored_bytes);
}

}  // namespace
}  // namespace kvr::experiment
