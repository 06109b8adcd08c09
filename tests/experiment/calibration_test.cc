#include "kvr/experiment/calibration.h"

#include <gtest/gtest.h>

#include <map>

#include "testing.h"

namespace kvr::experiment {
namespace {

// Times by a rule in place of a model.
Baseline CalibrateBy(const std::vector<std::size_t>& lengths, double free_over_block,
                     std::map<std::size_t, int>* prompts = nullptr) {
  return Calibrate(
      lengths, 16,
      [&](std::size_t prompt, int chunk) {
        if (prompts != nullptr) ++(*prompts)[prompt];
        const auto tokens = static_cast<double>(lengths[prompt]);
        // Chunks of 32 are the best.
        return chunk == 0 ? tokens : tokens * free_over_block + std::abs(chunk - 32);
      },
      [](const std::string&) {});
}

TEST(CalibrationTest, TheFasterOneByMoreThanTwoPercentIsTheBaseline) {
  EXPECT_TRUE(CalibrateBy({100, 200, 300}, 0.97).free);
  EXPECT_FALSE(CalibrateBy({100, 200, 300}, 0.985).free);
  EXPECT_FALSE(CalibrateBy({100, 200, 300}, 1.1).free);
}

TEST(CalibrationTest, TheBestLengthOfChunkIsTaken) {
  const Baseline baseline = CalibrateBy({100, 200, 300}, 1);
  EXPECT_EQ(baseline.free_tokens, 32);
  EXPECT_EQ(baseline.block_ms.size(), 5u);
  EXPECT_EQ(baseline.free_ms.size(), 5u);
  // No longer than the longest prompt.
  EXPECT_EQ(CalibrateBy({5, 20}, 1).free_tokens, 20);
  EXPECT_EQ(CalibrateBy({1}, 1).free_tokens, 1);
}

TEST(CalibrationTest, OrdinaryLengthsChoose) {
  std::map<std::size_t, int> prompts;
  const Baseline baseline = CalibrateBy({900, 10, 500, 300, 100}, 1, &prompts);
  // By length 10, 100, 300, 500, 900: the quartiles are 100, 300 and 500.
  EXPECT_EQ(baseline.block_ms, std::vector<double>(5, 900));
  EXPECT_FALSE(prompts.contains(1));
  for (const std::size_t prompt : {2u, 3u, 4u}) EXPECT_EQ(prompts[prompt], 10) << prompt;
  EXPECT_EQ(prompts[0], 8);  // four lengths of chunk, twice
}

TEST(CalibrationTest, AGivenBaselineIsTheScheduleOrChunksOfALength) {
  EXPECT_FALSE(ParseBaseline("block").free);
  EXPECT_TRUE(ParseBaseline("free:256").free);
  EXPECT_EQ(ParseBaseline("free:256").free_tokens, 256);
  for (const char* text : {"", "Block", "free", "free:", "free:0", "free:-1", "free:1.5", "free: 1",
                           "free:99999999", "block:128"}) {
    std::string message;
    KVR_EXPECT_ERROR((void)ParseBaseline(text), kInvalidInput, message);
    EXPECT_NE(message.find("--baseline"), std::string::npos) << message;
  }
}

}  // namespace
}  // namespace kvr::experiment
