#include "kvr/experiment/bench.h"

#include <sys/wait.h>

#include <cerrno>
#include <cmath>
#include <map>
#include <numeric>
#include <set>

#include "kvr/experiment/bench_busy.h"
#include "kvr/experiment/bench_cases.h"
#include "kvr/experiment/bench_profile.h"
#include "kvr/model/runtime.h"
#include "testing.h"

namespace kvr::experiment {
namespace {

std::set<std::string> Keys(const Json& json) {
  std::set<std::string> keys;
  for (const auto& [key, value] : json.items()) keys.insert(key);
  return keys;
}

class BenchTest : public ::testing::Test {
 protected:
  BenchTest() {
    model::SetUpRuntime(testing::Threads());
    generator_.emplace(engine::Generator::Options{.model = testing::TinyModel("tiny-gpt2"),
                                                  .encoder = testing::TinyModel("tiny-bert"),
                                                  .language_model = {.block_tokens = 16}});
    options_ = {.scratch = scratch_.path() / "cache", .repetitions = 2};
  }

  testing::TempFolder scratch_;
  std::optional<engine::Generator> generator_;
  BenchOptions options_;
};

TEST(BenchRowTest, ARatioOfOneIsTheBoundWhetherMoreIsBetterOrLess) {
  for (const char* unit : {"tok/s", "GB/s", "x"}) {
    EXPECT_EQ((BenchRow{.measured = 20, .bound = 40, .unit = unit}).ratio(), 0.5) << unit;
  }
  for (const char* unit : {"ms", "MB"}) {
    EXPECT_EQ((BenchRow{.measured = 40, .bound = 20, .unit = unit}).ratio(), 0.5) << unit;
  }
  EXPECT_EQ((BenchRow{.measured = 40, .unit = "ms"}).ratio(), std::nullopt);
}

// tiny-gpt2 has two layers, of width 64, and a context of 160.
TEST_F(BenchTest, AProfileTellsWhereTheTimeGoes) {
  if (generator_->language_model().kernel_path() == "torch") GTEST_SKIP() << "no kernels here";
  options_.repetitions = 3;
  const BenchProfileResult result = RunBenchProfile(*generator_, options_);
  ASSERT_EQ(result.profiles.size(), 1u);  // the context has no room for the others
  const BenchProfile& profile = result.profiles.front();
  EXPECT_EQ(profile.what, "decode behind 16");
  std::map<std::string, std::int64_t> calls;
  for (const model::OperatorTime& part : profile.operators) {
    calls[part.name] = part.calls;
    EXPECT_GT(part.ms, 0) << part.name;
  }
  EXPECT_EQ(calls.at("norm"), 5);
  EXPECT_EQ(calls.at("attend"), 2);
  EXPECT_EQ(calls.at("packing"), 9);  // four layers in each, and the head
  EXPECT_EQ(calls.at("linear 64 -> 192"), 2);
  EXPECT_EQ(calls.at("linear 64 -> 256"), 2);
  EXPECT_GE(profile.OutsideMs(), 0);
  EXPECT_LT(profile.OutsideMs(), profile.ms);
  const Json json = ToJson(result)["profiles"][0];
  EXPECT_EQ(json["operators"].size(), profile.operators.size());
  EXPECT_EQ(json["outside_ms"], profile.OutsideMs());
}

TEST_F(BenchTest, EveryPhaseHasItsRowsAndTheJsonHoldsThem) {
  options_.repetitions = 1;
  std::vector<std::string> said;
  options_.progress = [&](const std::string& what) { said.push_back(what); };
  const BenchResult result = RunBench(*generator_, options_);
  std::map<std::string, int> rows;
  for (const BenchRow& row : result.rows) {
    ++rows[row.phase];
    EXPECT_GT(row.measured, 0) << row.phase << ", " << row.what;
    EXPECT_TRUE(!row.bound || *row.bound > 0) << row.phase << ", " << row.what;
  }
  // What the tiny model's context holds: prefill of 128, decode at 16, three suffixes at one depth.
  EXPECT_EQ(rows, (std::map<std::string, int>{{"prefill", 1},
                                              {"decode", 1},
                                              {"recycled TTFT", 3},
                                              {"speedup", 1},
                                              {"overhead", 1},
                                              {"restore", 5},
                                              {"embedding", 1},
                                              {"lookup", 2},
                                              {"peak memory", 1},
                                              {"model load", 1}}));
  for (const int count : kGemmRows) {
    EXPECT_GT(result.limits.gemm_gflop_per_s_by_rows.at(count).at(0), 0);
  }
  EXPECT_GT(result.limits.read_gb_per_s.size(), 1u) << "the limits beside the phases are missing";
  EXPECT_EQ(result.limits.gemm_gflop_per_s_by_rows.at(128).size(), 2u) << "beside prefill of 128";
  EXPECT_FALSE(said.empty());

  const Json json = ToJson(result);
  EXPECT_EQ(Keys(json),
            (std::set<std::string>{"environment", "limits", "model", "repetitions", "rows"}));
  EXPECT_EQ(json["repetitions"], 1);
  EXPECT_EQ(json["model"]["device"], "cpu");
  EXPECT_EQ(json["limits"]["gemm_gflop_per_s_by_rows"]["128"],
            result.limits.gemm_gflop_per_s_by_rows.at(128));
  ASSERT_EQ(json["rows"].size(), result.rows.size());
  for (std::size_t i = 0; i < result.rows.size(); ++i) {
    const BenchRow& row = result.rows[i];
    const auto optional = [](const std::optional<double>& x) { return x ? Json(*x) : Json(); };
    EXPECT_EQ(json["rows"][i], (Json{{"phase", row.phase},
                                     {"what", row.what},
                                     {"measured", row.measured},
                                     {"bound", optional(row.bound)},
                                     {"unit", row.unit},
                                     {"ratio", optional(row.ratio())}}));
  }
}

TEST_F(BenchTest, WithoutAnEncoderNothingThatEmbedsIsMeasured) {
  engine::Generator plain(
      {.model = testing::TinyModel("tiny-gpt2"), .language_model = {.block_tokens = 16}});
  const BusyResult busy = RunBenchBusy(plain, {1}, options_);
  EXPECT_EQ(busy.rows.size(), 4u);
}

TEST(FairShareTest, IsTheCoresOverAllThatWantThemAndOneAtMost) {
  EXPECT_EQ(FairShare(2, 2, 2), 0.5);
  EXPECT_EQ(FairShare(2, 1, 4), 1);
}

// This process has no child, neither running nor to be waited for.
::testing::AssertionResult NoLoopIsLeft() {
  if (::waitpid(-1, nullptr, WNOHANG) == -1 && errno == ECHILD)
    return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << "a busy loop is left";
}

TEST_F(BenchTest, BesideALoopEachFigureHasAShareForEachRepetitionAndTheLoopGoes) {
  const BusyResult result = RunBenchBusy(*generator_, {1}, options_);
  EXPECT_TRUE(NoLoopIsLeft());
  ASSERT_EQ(result.rows.size(), 5u);
  for (const BusyRow& row : result.rows) {
    EXPECT_EQ(row.loops, 1);
    EXPECT_GT(row.quiet, 0) << row.phase;
    EXPECT_GT(row.measured, 0) << row.phase;
    ASSERT_EQ(row.shares.size(), 2u) << row.phase;
    EXPECT_DOUBLE_EQ(row.share, (row.shares[0] + row.shares[1]) / 2) << row.phase;
    EXPECT_EQ(row.fair_share, FairShare(testing::Threads(), 1, result.cores));
  }
  const Json json = ToJson(result);
  EXPECT_EQ(Keys(json),
            (std::set<std::string>{"cores", "environment", "model", "repetitions", "rows"}));
  EXPECT_EQ(Keys(json["rows"][0]),
            (std::set<std::string>{"fair_share", "loops", "measured", "phase", "quiet", "share",
                                   "shares", "unit", "what"}));
  EXPECT_EQ(json["rows"][2]["shares"], result.rows[2].shares);
}

TEST_F(BenchTest, OfARateTheShareIsMeasuredOverQuietAndOfATimeQuietOverMeasured) {
  options_.repetitions = 1;
  for (const BusyRow& row : RunBenchBusy(*generator_, {1}, options_).rows) {
    const double share = row.unit == "ms" ? row.quiet / row.measured : row.measured / row.quiet;
    EXPECT_DOUBLE_EQ(row.share, share) << row.phase;
  }
}

TEST_F(BenchTest, AnErrorBesideTheLoopsLeavesNoneOfThem) {
  int calls = 0;
  options_.progress = [&](const std::string&) {
    // Before the loops start: what they would run beside is not found.
    if (++calls == 2) std::filesystem::remove_all(options_.scratch);
  };
  std::string message;
  KVR_EXPECT_ERROR((void)RunBenchBusy(*generator_, {2}, options_), kCheckFailed, message);
  EXPECT_NE(message.find("was not found again"), std::string::npos) << message;
  EXPECT_EQ(calls, 2);
  EXPECT_TRUE(NoLoopIsLeft());
}

TEST_F(BenchTest, GivenCasesAreTimedAndTheRecycledOneGivesTheBaselinesTokens) {
  using What = BenchCase::What;
  Tokens tokens(45);
  std::iota(tokens.begin(), tokens.end(), 11);
  const BenchCasesResult result =
      RunBenchCases(*generator_,
                    {{.what = What::kPrefill, .tokens = tokens, .new_tokens = 3},
                     {.what = What::kRecycled, .tokens = tokens, .cached = 40, .new_tokens = 3},
                     {.what = What::kRecycled, .tokens = tokens, .cached = 20},
                     {.what = What::kEmbed, .text = "The harbour master"}},
                    options_);
  ASSERT_EQ(result.cases.size(), 4u);
  const BenchCaseResult& baseline = result.cases[0];
  const BenchCaseResult& recycled = result.cases[1];
  EXPECT_EQ(baseline.tokens.size(), 3u);
  EXPECT_EQ(baseline.prompt_tokens, 45u);
  EXPECT_EQ(baseline.reuse_depth, 0);
  EXPECT_EQ(recycled.tokens, baseline.tokens);
  EXPECT_EQ(recycled.reuse_depth, 40);
  EXPECT_GT(recycled.restored_bytes, 0u);
  for (const auto& [phase, ms] : recycled.ms) EXPECT_EQ(ms.size(), 2u) << phase;
  EXPECT_EQ(result.cases[2].reuse_depth, 20);  // not what an earlier case has cached
  EXPECT_TRUE(result.cases[2].ms.at("decode").empty());
  EXPECT_GT(result.cases[3].pieces, 0u);

  const Json json = ToJson(result);
  EXPECT_EQ(Keys(json["cases"][1]),
            (std::set<std::string>{"busy_cores", "ms", "prompt_tokens", "restored_bytes",
                                   "reuse_depth", "tokens", "what"}));
  EXPECT_EQ(json["cases"][1]["what"], "recycled");
  EXPECT_EQ(json["cases"][2]["ms"]["decode"], Json::array());
  EXPECT_EQ(Keys(json["cases"][3]),
            (std::set<std::string>{"busy_cores", "embedding", "ms", "pieces", "what"}));
  EXPECT_EQ(Keys(json["cases"][3]["ms"]), (std::set<std::string>{"embed"}));
}

}  // namespace
}  // namespace kvr::experiment
