// The tables of depths, fidelity, codecs and costs.
#include <cmath>

#include "report_fixture.h"

namespace kvr::report {
namespace {

// A hit of another codec, which drifted.
Json Drifted(const char* prompt, double ttft_ms, const char* codec, double restore_ms,
             const Json& fidelity) {
  Json line = Recycled(prompt, 0, ttft_ms, 60,
                       {{"codec", codec}, {"exact_claimed", false}, {"restore_ms", restore_ms}});
  line["fidelity"].update({{"exact", false}});
  line["fidelity"].update(fidelity);
  return line;
}

Json CodecDescription() {
  Json description = Description();
  description["models"][0]["stored_bytes_per_token"] = {{"fp32", 1000}, {"int8", 270}};
  Json fill = description["fill"][0];
  fill.update({{"codec", "int8"}, {"save_ms", 7.0}, {"bytes", 17000}});
  description["fill"].push_back(fill);
  return description;
}

TEST_F(ReportTest, DepthsFoundStandAgainstDepthsThatWereThere) {
  // t1: 60 against 64 that the prefix policy found; t2: 40 against 80 that the cell recorded.
  const Json row = Row(ReportOf(Sample()), "depth_found", {{"workload", "extends"}});
  EXPECT_EQ(row.at("prompts"), 2);
  EXPECT_EQ(row.at("found_mean"), 50);
  EXPECT_EQ(row.at("available_mean"), 72);
  EXPECT_NEAR(row.at("found_share").get<double>(), 100.0 / 144, 1e-12);
  EXPECT_EQ(row.at("short"), 2);
  EXPECT_TRUE(row.at("prefix_mean").is_null());  // the prefix policy never ran t2
  std::vector<Json> cells = Sample();
  cells.push_back(Recycled("t2", 0, 90, 70, {{"policy", "prefix"}}));
  EXPECT_EQ(Row(ReportOf(cells), "depth_found", {{"workload", "extends"}}).at("prefix_mean"), 67);
}

TEST_F(ReportTest, SpeedupGoesIntoTheBucketOfItsDepth) {
  const Report report = ReportOf(Sample());
  const Json shallow = Row(report, "depth", {{"policy", "embedding"}, {"depth", "1-63"}});
  EXPECT_EQ(shallow.at("cells"), 4);
  EXPECT_EQ(shallow.at("prompts"), 2);
  EXPECT_NEAR(shallow.at("ttft_speedup").get<double>(), std::sqrt(3.0 * 2.0), 1e-12);
  EXPECT_EQ(shallow.at("ttft_speedup_max"), 4);
  EXPECT_EQ(Row(report, "depth", {{"policy", "prefix"}, {"depth", "64-127"}}).at("cells"), 1);
  const Json empty = Row(report, "depth", {{"policy", "embedding"}, {"depth", "512+"}});
  EXPECT_EQ(empty.at("cells"), 0);
  EXPECT_TRUE(empty.at("ttft_speedup").is_null());
}

TEST_F(ReportTest, FillingPaysForItselfAfterSoManyHits) {
  const Report report = ReportOf(Sample());
  const Json fill = Row(report, "fill");
  EXPECT_EQ(fill.at("entries"), 2);
  EXPECT_EQ(fill.at("save_ms"), 40);
  EXPECT_EQ(fill.at("save_ms_per_token"), 0.4);
  EXPECT_EQ(fill.at("bytes_per_token"), 800);
  EXPECT_EQ(fill.at("kv_bytes_per_token"), 1000);
  const Json even = Row(report, "break_even", {{"policy", "embedding"}});
  EXPECT_EQ(even.at("saved_ms_mean"), 85);  // 90, 70, 80, 100
  EXPECT_NEAR(even.at("break_even_hits").get<double>(), 40.0 / 85, 1e-12);
  EXPECT_NEAR(even.at("break_even_hits_per_entry").get<double>(), 20.0 / 85, 1e-12);
}

TEST_F(ReportTest, CodecsStandSideBySide) {
  std::vector<Json> cells = Sample();
  cells.push_back(Drifted("t1", 33, "int8", 0.5,
                          {{"max_abs_logit_diff", 0.25}, {"kl_mean", 0.01}, {"kl_max", 0.03}}));
  cells.push_back(Drifted("t2", 80, "int8", 1.5,
                          {{"max_abs_logit_diff", 0.125},
                           {"kl_mean", 0.03},
                           {"kl_max", 0.05},
                           {"first_divergence", 2},
                           {"top1", 0.5}}));
  // Stopped at the first token: it counts as a hit, but says too little about drift.
  Json short_one = Drifted("t2", 80, "int8", 2.5, {{"max_abs_logit_diff", 99.0}, {"kl_max", 99.0}});
  short_one.update({{"repetition", 1}, {"full", false}, {"tokens", {5}}, {"new_tokens", 1}});
  cells.push_back(short_one);
  const Report report = ReportOf(cells, CodecDescription());
  EXPECT_TRUE(report.alarms.empty()) << report.alarms.front();
  const std::vector<Json> rows = Rows(report, "codecs");
  ASSERT_EQ(rows.size(), 2u);
  const Json& fp32 = rows[0];
  EXPECT_EQ(fp32.at("codec"), "fp32");
  EXPECT_EQ(fp32.at("stored_bytes_per_token"), 1000);
  EXPECT_EQ(fp32.at("fill_ms"), 40);
  EXPECT_EQ(fp32.at("hits"), 5);
  EXPECT_EQ(fp32.at("exact_share"), 1);
  EXPECT_TRUE(fp32.at("first_divergence").is_null());
  EXPECT_EQ(fp32.at("max_abs_logit_diff"), 0);
  const Json& int8 = rows[1];
  EXPECT_EQ(int8.at("codec"), "int8");
  EXPECT_EQ(int8.at("stored_bytes_per_token"), 270);
  EXPECT_EQ(int8.at("fill_ms"), 7);
  EXPECT_EQ(int8.at("restore_median_ms"), 1.5);
  EXPECT_EQ(int8.at("cells"), 3);
  EXPECT_EQ(int8.at("hits"), 3);
  EXPECT_EQ(int8.at("compared"), 2);
  EXPECT_EQ(int8.at("exact_share"), 0);
  EXPECT_EQ(int8.at("diverged_share"), 0.5);
  EXPECT_EQ(int8.at("first_divergence"), 2);
  EXPECT_EQ(int8.at("max_abs_logit_diff"), 0.25);
  EXPECT_EQ(int8.at("kl_mean"), 0.02);
  EXPECT_EQ(int8.at("kl_max"), 0.05);
  EXPECT_EQ(int8.at("top1"), 0.75);
}

TEST_F(ReportTest, NoTableMixesCodecs) {
  std::vector<Json> cells = Sample();
  const Report before = ReportOf(cells, CodecDescription());
  cells.push_back(Drifted("t1", 5, "int8", 0.5, {{"first_divergence", 0}, {"kl_mean", 9.0}}));
  cells.push_back(Drifted("t2", 5, "int8", 0.5, {{"first_divergence", 0}, {"kl_mean", 9.0}}));
  const Report after = ReportOf(cells, CodecDescription());
  for (const char* table : {"prompts", "workloads", "fidelity", "no_overlap", "exactness",
                            "depth_found", "depth", "fill", "break_even", "limits", "codecs"}) {
    EXPECT_EQ(Rows(before, table, {{"codec", "fp32"}}), Rows(after, table, {{"codec", "fp32"}}))
        << table;
    EXPECT_FALSE(Rows(before, table, {{"codec", "fp32"}}).empty()) << table;
  }
  const Json row = Row(after, "exactness", {{"codec", "int8"}});
  EXPECT_EQ(row.at("hits_claimed_exact"), 0);
  EXPECT_EQ(row.at("claims_broken"), 0);
  EXPECT_EQ(row.at("exact_share"), 0);
  EXPECT_EQ(Row(after, "prompts", {{"codec", "int8"}, {"prompt_id", "t1"}}).at("ttft_speedup"), 24);
  // For people, the column is there only where there is a choice.
  const auto heads = [](const Report& report, const char* table) {
    const std::string text = Render(TableNamed(report, table), "table");
    const std::size_t title = text.find('\n', text.find('\n') + 1) + 1;
    return text.substr(title, text.find('\n', title) - title);
  };
  EXPECT_EQ(heads(before, "exactness").find("codec"), std::string::npos);
  EXPECT_NE(heads(after, "exactness").find("codec"), std::string::npos);
  EXPECT_NE(heads(before, "codecs").find("codec"), std::string::npos);
}

TEST_F(ReportTest, CellsWithoutACodecAreOfFp32) {
  Json cell = Recycled("t1", 0, 50, 60);
  cell.erase("codec");
  const Report report = ReportOf({Base("t1", 0, 100), cell});
  EXPECT_EQ(Row(report, "prompts").at("codec"), "fp32");
  const Json row = Row(report, "codecs");
  EXPECT_EQ(row.at("codec"), "fp32");
  EXPECT_TRUE(row.at("stored_bytes_per_token").is_null());
  EXPECT_EQ(row.at("fill_ms"), 40);
}

TEST_F(ReportTest, LimitsAreCounted) {
  const Report report = ReportOf(Sample());
  const Json hits = Row(report, "limits", {{"policy", "embedding"}, {"outcome", "hit"}});
  EXPECT_EQ(hits.at("limited_by"), "end_of_entry");
  EXPECT_EQ(hits.at("cells"), 4);
  EXPECT_EQ(hits.at("prompts"), 2);
  EXPECT_EQ(Row(report, "limits", {{"outcome", "miss"}}).at("limited_by"), "no_candidate");
}

TEST_F(ReportTest, CandidatesArePartOfAWayOfReuse) {
  std::vector<Json> cells = {Base("t1", 0, 100)};
  for (const int candidates : {5, 1}) {
    cells.push_back(
        Recycled("t1", 0, 50 + candidates, 60, {{"match", "whole"}, {"candidates", candidates}}));
  }
  const Report report = ReportOf(cells);
  EXPECT_EQ(Row(report, "prompts", {{"candidates", 1}}).at("recycled_ttft_ms"), 51);
  EXPECT_EQ(Row(report, "paper").at("recycled_s"), 0.051);
  EXPECT_NE(Render(TableNamed(report, "prompts"), "table").find("cand."), std::string::npos);
  cells.pop_back();
  EXPECT_EQ(Render(TableNamed(ReportOf(cells), "prompts"), "table").find("cand."),
            std::string::npos);
}

TEST_F(ReportTest, ThePapersTableHasARowAPrompt) {
  std::vector<Json> cells;
  for (int i = 0; i < 3; ++i) {
    cells.push_back(Base("t1", i, 100));
    cells.push_back(Recycled("t1", i, 40, 60, {{"similarity", 0.75}}));
  }
  const Json row = Row(ReportOf(cells), "paper");
  EXPECT_EQ(row.at("baseline_s"), 0.12);
  EXPECT_EQ(row.at("recycled_s"), 0.06);
  EXPECT_EQ(row.at("speedup_percent"), 50);
  EXPECT_EQ(row.at("reuse_depth"), 60);
  EXPECT_EQ(row.at("prompt_similarity"), 0.75);
  EXPECT_EQ(row.at("output_similarity"), 1);
}

TEST_F(ReportTest, RandomWeightsHaveNoOutputSimilarity) {
  std::vector<Json> cells = {Base("t1", 0, 100), Recycled("t1", 0, 50, 60)};
  cells[1].update(WithFidelity({{"semantic", "random weights"}, {"cosine", 1.0}}));
  Json description = Description();
  description["models"][0]["random_weights"] = true;
  const Report report = ReportOf(cells, description);
  EXPECT_EQ(Row(report, "prompts").at("output_cosine"), "random weights");
  EXPECT_TRUE(Says(report.facts, "RANDOM WEIGHTS"));
  cells[1].update(WithFidelity({{"semantic", "first token only"}, {"cosine", nullptr}}));
  EXPECT_EQ(Row(ReportOf(cells), "prompts").at("output_cosine"), "no encoder");
  cells[1].update(WithFidelity({{"cosine", nullptr}}));
  EXPECT_EQ(Row(ReportOf(cells), "prompts").at("output_cosine"), "no encoder");
  cells[1]["text"] = " ";
  cells[1].update(WithFidelity({{"rouge_l", 1.0}}));
  EXPECT_EQ(Row(ReportOf(cells), "prompts").at("output_cosine"), "empty replies");
  cells[1].update(WithFidelity({{"semantic", "first token only"}, {"cosine", nullptr}}));
  cells[1]["full"] = false;
  EXPECT_EQ(Row(ReportOf(cells), "prompts").at("output_cosine"), "first token only");
}

TEST_F(ReportTest, ARunOfMissesHasNoSavings) {
  const Report report = ReportOf({Base("t1", 0, 100), Recycled("t1", 0, 104, 0)});
  const Json row = Row(report, "workloads", {{"workload", "extends"}});
  EXPECT_EQ(row.at("hits"), 0);
  EXPECT_TRUE(row.at("hit_depth_mean").is_null());
  const Json even = Row(report, "break_even");
  EXPECT_TRUE(even.at("saved_ms_mean").is_null());
  EXPECT_TRUE(even.at("break_even_hits").is_null());
  EXPECT_TRUE(Row(report, "exactness").at("exact_share").is_null());
}

TEST_F(ReportTest, HitsThatSaveNothingNeverBreakEven) {
  const Report report = ReportOf({Base("t1", 0, 100), Recycled("t1", 0, 130, 60)});
  EXPECT_EQ(Row(report, "break_even").at("saved_ms_mean"), -30);
  EXPECT_TRUE(Row(report, "break_even").at("break_even_hits").is_null());
}

TEST_F(ReportTest, RowsAreInOrderThoughCellsAreNot) {
  const Report report =
      ReportOf({Recycled("t10", 0, 50, 60, {{"match", "block"}}),
                Recycled("t2", 0, 50, 60, {{"policy", "prefix"}}),
                Recycled("t2", 0, 50, 60, {{"match", "block"}}),
                Recycled("t2", 0, 50, 60, {{"match", "whole"}}), Recycled("t2", 0, 50, 60)});
  std::string order;
  for (const Json& row : Rows(report, "prompts")) {
    order += row.at("prompt_id").get<std::string>() + " " + row.at("policy").get<std::string>() +
             " " + row.at("match").get<std::string>() + "; ";
  }
  EXPECT_EQ(order,
            "t2 embedding whole; t2 embedding token; t2 embedding block; t2 prefix token; "
            "t10 embedding block; ");
}

TEST_F(ReportTest, AllButOneIsNotAHundredPercent) {
  std::vector<Json> cells = {Base("t1", 0, 100)};
  for (int i = 0; i < 3000; ++i) cells.push_back(Recycled("t1", i, 50, 60));
  cells[7].update(WithFidelity({{"exact", false}}));
  const std::string text = Render(TableNamed(ReportOf(cells), "exactness"), "table");
  EXPECT_NE(text.find("2999 of 3000"), std::string::npos);
}

}  // namespace
}  // namespace kvr::report
