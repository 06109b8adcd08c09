#include "kvr/report/report.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "kvr/base/error.h"

namespace kvr::report {

using namespace record;
namespace {

namespace fs = std::filesystem;

// A whole line as the format's document gives it, not as ToJson() would write it.
Json Line(const Json& changes) {
  Json line = Json::parse(R"({
    "schema": 1, "model": "tiny", "precision": "fp32", "workload": "extends", "prompt_id": "t1",
    "repetition": 0, "arm": "baseline", "schedule": "block", "control": false, "policy": "off",
    "match": null, "codec": null, "outcome": "off", "limited_by": null, "exact_claimed": false,
    "prompt_tokens": 100, "reuse_depth": 0, "similarity": null, "entry": null, "tier": null,
    "page_cache": null, "restored_bytes": 0, "embed_ms": 0.0, "lookup_ms": 0.0, "restore_ms": 0.0,
    "prefill_ms": 90.0, "ttft_ms": 100.0, "decode_ms": 20.0, "total_ms": 120.0, "save_ms": null,
    "new_tokens": 3, "full": true, "tokens": [5, 6, 7], "text": "five six seven",
    "truncated_tokens": 0, "fidelity": null})");
  line.update(changes);
  return line;
}

Json Base(const char* prompt, int repetition, double ttft_ms,
          const Json& changes = Json::object()) {
  Json line = Line({{"prompt_id", prompt},
                    {"repetition", repetition},
                    {"prefill_ms", ttft_ms},
                    {"ttft_ms", ttft_ms},
                    {"total_ms", ttft_ms + 20}});
  line.update(changes);
  return line;
}

Json Free(const char* prompt, double ttft_ms) {
  return Base(prompt, 0, ttft_ms,
              {{"schedule", "free"},
               {"full", false},
               {"decode_ms", nullptr},
               {"total_ms", nullptr},
               {"new_tokens", 1},
               {"tokens", {5}}});
}

const Json kSame = {{"exact", true},         {"compared_tokens", 3}, {"first_divergence", nullptr},
                    {"kl_mean", 0.0},        {"kl_max", 0.0},        {"max_abs_logit_diff", 0.0},
                    {"top1", 1.0},           {"cosine", 1.0},        {"rouge_l", 1.0},
                    {"semantic", "measured"}};

Json Recycled(const char* prompt, int repetition, double ttft_ms, int depth,
              const Json& changes = Json::object()) {
  Json line = Base(prompt, repetition, ttft_ms,
                   {{"arm", "recycled"},
                    {"policy", "embedding"},
                    {"match", "token"},
                    {"codec", "fp32"},
                    {"outcome", depth > 0 ? "hit" : "miss"},
                    {"limited_by", depth > 0 ? "end_of_entry" : "no_candidate"},
                    {"exact_claimed", true},
                    {"reuse_depth", depth},
                    {"embed_ms", 3.0},
                    {"lookup_ms", 1.0},
                    {"prefill_ms", ttft_ms - 4},
                    {"fidelity", kSame}});
  line.update(changes);
  return line;
}

Json WithFidelity(const Json& changes) {
  Json fidelity = kSame;
  fidelity.update(changes);
  return {{"fidelity", fidelity}};
}

Json Description() {
  return Json::parse(R"({
    "schema": 1, "name": "toy", "config": {"control_groups": ["unrelated"], "anything": [1]},
    "environment": {"cpu_model": "Testium 2", "instruction_set": "avx512", "threads": 2,
                    "libtorch_version": "2.13.0", "host": "h", "commit": "abc123",
                    "build_type": "Release", "load_average": [0.5, 0.4, 0.3]},
    "models": [{"name": "tiny", "fingerprint": "00", "precision": "fp32", "random_weights": false,
                "probe": {"exact": true, "cuts": 77}, "kv_bytes_per_token": 1000,
                "free_chunk_tokens": 256}],
    "fill": [{"model": "tiny", "precision": "fp32", "entry": "p1", "tokens": 60, "prefill_ms": 50,
              "save_ms": 25.0, "bytes": 61000, "new_blocks": 1, "shared_blocks": 0},
             {"model": "tiny", "precision": "fp32", "entry": "p2", "tokens": 40, "prefill_ms": 40,
              "save_ms": 15.0, "bytes": 19000, "new_blocks": 0, "shared_blocks": 1}],
    "started": "2026-01-31T12:00:00Z", "finished": "2026-01-31T12:04:00Z"})");
}

class ReportTest : public ::testing::Test {
 protected:
  using Run = record::Run;  // not testing::Test::Run

  ReportTest() {
    std::string pattern = (fs::temp_directory_path() / "kvr_report_XXXXXX").string();
    root_ = mkdtemp(pattern.data());
  }
  ~ReportTest() override { fs::remove_all(root_); }

  fs::path WriteText(const std::string& description, const std::string& cells,
                     const std::string& name = "20260131-120000") {
    const fs::path folder = root_ / name;
    fs::create_directories(folder);
    std::ofstream(folder / "run.json") << description;
    std::ofstream(folder / "cells.jsonl") << cells;
    return folder;
  }
  static std::string Lines(const std::vector<Json>& cells) {
    std::string lines;
    for (const Json& cell : cells) lines += cell.dump() + "\n";
    return lines;
  }
  fs::path Write(const std::vector<Json>& cells, const Json& description = Description()) {
    return WriteText(description.dump(), Lines(cells));
  }
  Report ReportOf(const std::vector<Json>& cells, const Json& description = Description()) {
    const Run run = ReadRun(Write(cells, description));
    return BuildReport({&run, 1});
  }

 private:
  fs::path root_;
};

const Table& TableOf(const Report& report, const std::string& name) {
  for (const Table& table : report.tables) {
    if (table.name == name) return table;
  }
  throw std::out_of_range(name);
}

// The rows of the JSON output, for which every wanted pair of key and value holds.
std::vector<Json> Rows(const Report& report, const std::string& name,
                       const Json& wanted = Json::object()) {
  std::vector<Json> rows;
  const Json table = Json::parse(Render(TableOf(report, name), Format::kJson));
  for (const Json& row : table.at("rows")) {
    bool all = true;
    for (const auto& [key, value] : wanted.items()) all = all && row.at(key) == value;
    if (all) rows.push_back(row);
  }
  return rows;
}

Json Row(const Report& report, const std::string& name, const Json& wanted = Json::object()) {
  const std::vector<Json> rows = Rows(report, name, wanted);
  EXPECT_EQ(rows.size(), 1u) << name << " " << wanted;
  return rows.empty() ? Json::object() : rows.front();
}

bool Says(const std::vector<std::string>& lines, const std::string& text) {
  return std::any_of(lines.begin(), lines.end(),
                     [&](const std::string& line) { return line.find(text) != std::string::npos; });
}

template <typename F>
Error ErrorOf(F call) {
  try {
    call();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "no Error";
  return InvalidInput("");
}

// t1: baselines 100, 140, 120, free 90; recycled 30, 50, 40. t2: baselines 200, no free one;
// recycled 100. Unrelated u1: baselines 60 and a second run of 66; recycled 64.
std::vector<Json> Sample() {
  const Json control = {{"workload", "unrelated"}};
  Json second = Base("u1", 0, 66, {{"workload", "unrelated"}, {"control", true}});
  second["fidelity"] = kSame;
  Json miss = Recycled("u1", 0, 64, 0, {{"workload", "unrelated"}, {"prefill_ms", 63.0}});
  return {Base("t1", 0, 100),
          Base("t1", 1, 140),
          Base("t1", 2, 120),
          Free("t1", 90),
          Recycled("t1", 0, 30, 60, {{"similarity", 0.9}}),
          Recycled("t1", 1, 50, 60, {{"similarity", 0.9}}),
          Recycled("t1", 2, 40, 60, {{"similarity", 0.9}}),
          Base("t2", 0, 200),
          Recycled("t2", 0, 100, 40, {{"available_depth", 80}}),
          Recycled("t1", 0, 45, 64, {{"policy", "prefix"}}),
          Base("u1", 0, 60, control),
          second,
          miss};
}

TEST_F(ReportTest, PromptRowsCompareMediansWithTheOneBaseline) {
  const Report report = ReportOf(Sample());
  const Json t1 = Row(report, "prompts", {{"prompt_id", "t1"}, {"policy", "embedding"}});
  EXPECT_EQ(t1.at("baseline_ttft_ms"), 120);  // the free one's 90 is another schedule's
  EXPECT_EQ(t1.at("baseline"), "block");
  EXPECT_EQ(t1.at("recycled_ttft_ms"), 40);
  EXPECT_EQ(t1.at("ttft_speedup"), 3);
  EXPECT_EQ(t1.at("new_tokens"), 3);
  EXPECT_EQ(t1.at("baseline_total_ms"), 140);
  EXPECT_EQ(t1.at("recycled_total_ms"), 60);
  EXPECT_EQ(t1.at("reuse_depth"), 60);
  EXPECT_EQ(t1.at("similarity"), 0.9);
  EXPECT_EQ(t1.at("output_cosine"), 1.0);
  EXPECT_EQ(t1.at("exact_to_the_end"), true);
  EXPECT_TRUE(t1.at("exact_at_first_token").is_null());
  EXPECT_EQ(t1.at("limited_by"), "end_of_entry");
  const Json t2 = Row(report, "prompts", {{"prompt_id", "t2"}});
  EXPECT_EQ(t2.at("baseline"), "block");
  EXPECT_EQ(t2.at("ttft_speedup"), 2.0);
  EXPECT_TRUE(t2.at("baseline_total_ms").is_null());  // of one cell
  EXPECT_TRUE(t2.at("similarity").is_null());
}

TEST_F(ReportTest, AggregatesCountTheMissesAndTakeTheGeometricMean) {
  const Report report = ReportOf(Sample());
  const Json row = Row(report, "workloads", {{"workload", "extends"}, {"policy", "embedding"}});
  EXPECT_EQ(row.at("prompts"), 2);
  EXPECT_EQ(row.at("cells"), 4);
  EXPECT_EQ(row.at("hits"), 4);
  EXPECT_EQ(row.at("hit_depth_mean"), 55);  // (3 * 60 + 40) / 4
  EXPECT_EQ(row.at("reused_share"), 0.55);  // 220 of 400
  EXPECT_NEAR(row.at("ttft_speedup").get<double>(), std::sqrt(3.0 * 2.0), 1e-12);
  EXPECT_TRUE(row.at("ttft_speedup_low").is_null());  // two prompts make no interval
  const Json miss = Row(report, "workloads", {{"workload", "unrelated"}});
  EXPECT_NEAR(miss.at("ttft_speedup").get<double>(), 60.0 / 64.0, 1e-12);
  EXPECT_TRUE(miss.at("ttft_speedup_of_hits").is_null());
  EXPECT_TRUE(miss.at("hit_depth_mean").is_null());
  EXPECT_EQ(miss.at("reused_share"), 0);
  const Json rest =
      Row(report, "workloads",
          {{"workload", "all but control"}, {"match", "token"}, {"policy", "embedding"}});
  EXPECT_EQ(rest.at("prompts"), 2);
}

// Logs of ratios 2, 2, 4, 4, 8, 8: mean log 4, standard error log 2 * sqrt(0.8 / 6), t of 5
// degrees.
TEST_F(ReportTest, IntervalsAreStudentsOnLogRatios) {
  std::vector<Json> cells;
  for (int i = 0; i < 6; ++i) {
    const std::string id = "t" + std::to_string(i);
    cells.push_back(Base(id.c_str(), 0, 160));
    cells.push_back(Recycled(id.c_str(), 0, 80 >> (i / 2), 60));
  }
  const Json row = Row(ReportOf(cells), "workloads", {{"workload", "extends"}});
  EXPECT_EQ(row.at("clusters"), 6);
  EXPECT_NEAR(row.at("ttft_speedup").get<double>(), 4, 1e-12);
  const double half = 2.570582 * std::log(2) * std::sqrt(0.8 / 6);
  EXPECT_NEAR(row.at("ttft_speedup_low").get<double>(), 4 * std::exp(-half), 1e-5);
  EXPECT_NEAR(row.at("ttft_speedup_high").get<double>(), 4 * std::exp(half), 1e-5);
  // Prompts that share a cached parent are one cluster: three of them, and t of 2 degrees.
  for (int i = 0; i < 12; ++i) cells[i]["cached_parent"] = "p" + std::to_string(i / 4);
  const Json shared = Row(ReportOf(cells), "workloads", {{"workload", "extends"}});
  EXPECT_EQ(shared.at("clusters"), 3);
  EXPECT_NEAR(shared.at("ttft_speedup_high").get<double>(),
              4 * std::exp(4.302653 * std::log(2) / std::sqrt(3)), 1e-4);
}

TEST_F(ReportTest, PhasesAreMediansOverCells) {
  const Report report = ReportOf(Sample());
  const Json row = Row(report, "phases", {{"workload", "extends"}, {"policy", "embedding"}});
  EXPECT_EQ(row.at("ttft_median_ms"), 45);  // 30, 40, 50, 100
  EXPECT_NEAR(row.at("ttft_p95_ms").get<double>(), 92.5, 1e-9);
  EXPECT_EQ(row.at("embed_median_ms"), 3);
  EXPECT_EQ(row.at("decode_per_token_median_ms"), 10);  // 20 ms for two tokens after the first
  const Json free =
      Row(report, "phases", {{"workload", "extends"}, {"policy", "baseline"}, {"match", "free"}});
  EXPECT_EQ(free.at("ttft_median_ms"), 90);
  EXPECT_TRUE(free.at("ttft_p95_ms").is_null());
  EXPECT_TRUE(free.at("decode_per_token_median_ms").is_null());
}

TEST_F(ReportTest, OneControlPromptHasNoVerdict) {
  const Json row = Row(ReportOf(Sample()), "no_overlap");
  EXPECT_EQ(row.at("prompts"), 1);
  EXPECT_EQ(row.at("hits"), 0);
  EXPECT_EQ(row.at("same_tokens_share"), 1);
  EXPECT_NEAR(row.at("prefill_difference").get<double>(), 63.0 / 60 - 1, 1e-12);
  EXPECT_TRUE(row.at("prefill_verdict").is_null());
  EXPECT_TRUE(row.at("decode_difference").is_null());  // of one decoded cell
  EXPECT_EQ(row.at("overhead_ms"), 4);
  EXPECT_EQ(row.at("overhead_share"), 0.0625);  // 4 of 64
}

TEST_F(ReportTest, BaselineAgainstBaseline) {
  const Json row = Row(ReportOf(Sample()), "baselines", {{"what", "second baseline"}});
  EXPECT_EQ(row.at("cells"), 1);
  EXPECT_EQ(row.at("exact_share"), 1);
  EXPECT_EQ(row.at("max_abs_logit_diff"), 0);
  EXPECT_NEAR(row.at("ttft_ratio").get<double>(), 60.0 / 66, 1e-12);
  EXPECT_NEAR(row.at("ttft_difference").get<double>(), 66.0 / 60 - 1, 1e-12);
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
    const std::string text = Render(TableOf(report, table), Format::kTable);
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

TEST_F(ReportTest, ASoundRunRaisesNoAlarm) {
  const Report report = ReportOf(Sample());
  EXPECT_TRUE(report.alarms.empty()) << report.alarms.front();
  ASSERT_EQ(report.warnings.size(), 1u);  // t2, u1 and t1 by prefix have one cell each
  EXPECT_TRUE(report.warnings[0].starts_with("totals are not given 3 times: fewer than 3 decoded"));
  EXPECT_TRUE(Says(report.facts, "Testium 2, avx512, 2 threads"));
  EXPECT_TRUE(Says(report.facts, "commit abc123"));
  const Json row = Row(report, "exactness", {{"policy", "embedding"}});
  EXPECT_EQ(row.at("hits"), 4);
  EXPECT_EQ(row.at("exact_share"), 1);
  EXPECT_EQ(row.at("zero_difference_share"), 1);
  EXPECT_EQ(row.at("claims_broken"), 0);
  EXPECT_EQ(row.at("probe_exact"), true);
}

TEST_F(ReportTest, ABrokenClaimIsTheFirstLine) {
  std::vector<Json> cells = Sample();
  cells[5].update(WithFidelity({{"exact", false}, {"max_abs_logit_diff", 0.5}, {"kl_max", 0.25}}));
  const Report report = ReportOf(cells);
  ASSERT_EQ(report.alarms.size(), 1u);
  EXPECT_TRUE(report.alarms[0].starts_with("EXACTNESS VIOLATED: 1 cells"));
  EXPECT_TRUE(Render(report, Format::kTable).starts_with("!!! EXACTNESS VIOLATED"));
  EXPECT_TRUE(Render(report, Format::kMarkdown).starts_with("- **EXACTNESS VIOLATED"));
  EXPECT_TRUE(Render(report, Format::kCsv).starts_with("# EXACTNESS VIOLATED"));
  EXPECT_NE(Render(report, Format::kLatex).find("\\textbf{EXACTNESS VIOLATED"), std::string::npos);
  EXPECT_EQ(Row(report, "exactness", {{"policy", "embedding"}}).at("exact_share"), 0.75);
  EXPECT_EQ(
      Row(report, "prompts", {{"prompt_id", "t1"}, {"policy", "embedding"}}).at("exact_to_the_end"),
      false);
  EXPECT_EQ(Row(report, "fidelity", {{"workload", "extends"}, {"policy", "embedding"}})
                .at("max_abs_logit_diff"),
            0.5);
}

TEST_F(ReportTest, AMissThatBreaksItsClaimIsAnAlarmToo) {
  std::vector<Json> cells = Sample();
  cells.back().update(WithFidelity({{"exact", false}, {"first_divergence", 1}}));
  EXPECT_TRUE(Says(ReportOf(cells).alarms, "EXACTNESS VIOLATED: 1 cells"));
}

// Each of the three alone: the verdict, the tokens, the logits.
TEST_F(ReportTest, AnyContradictionOfAClaimIsAnAlarm) {
  for (const Json& sign : {Json{{"exact", false}}, Json{{"first_divergence", 2}},
                           Json{{"max_abs_logit_diff", 1e-9}}}) {
    std::vector<Json> cells = Sample();
    cells[4].update(WithFidelity(sign));
    EXPECT_TRUE(Says(ReportOf(cells).alarms, "EXACTNESS VIOLATED: 1 cells")) << sign;
  }
}

TEST_F(ReportTest, TotalsAreOfThreeDecodedCellsOrNone) {
  std::vector<Json> cells;
  for (int i = 0; i < 3; ++i) {
    cells.push_back(Base("t1", i, 100));
    cells.push_back(Recycled("t1", i, 50, 60));
  }
  cells.push_back(Recycled("t1", 3, 10, 60, {{"full", false}}));
  const Report report = ReportOf(cells);
  const Json row = Row(report, "prompts");
  EXPECT_EQ(row.at("recycled_ttft_ms"), 50);
  EXPECT_EQ(row.at("recycled_total_ms"), 70);
  EXPECT_NEAR(row.at("total_speedup").get<double>(), 120.0 / 70, 1e-12);
  EXPECT_FALSE(Says(report.warnings, "totals are not given"));
  cells[5]["full"] = false;
  EXPECT_TRUE(Row(ReportOf(cells), "prompts").at("total_speedup").is_null());
  EXPECT_TRUE(Says(ReportOf(cells).warnings, "totals are not given 1 times"));
}

Json Marked(Json cell, const Json& totals, int new_tokens) {
  cell.update({{"schema", 2}, {"totals_ms", totals}, {"new_tokens", new_tokens}});
  cell["tokens"] = std::vector<int>(static_cast<std::size_t>(new_tokens), 5);
  return cell;
}

// The baseline goes on to 4 tokens, the second way of reuse stops at 2: compared at 2.
TEST_F(ReportTest, TotalsAreComparedAtMarksThatBothArmsReached) {
  std::vector<Json> cells;
  for (int i = 0; i < 3; ++i) {
    cells.push_back(Marked(Base("t1", i, 100), {{"2", 110}, {"4", 130}}, 4));
    cells.push_back(Marked(Recycled("t1", i, 50, 60), {{"2", 60}, {"4", 80}}, 4));
    cells.push_back(Marked(Recycled("t1", i, 45, 60, {{"match", "block"}}), {{"2", 55}}, 2));
    cells[cells.size() - 3]["total_ms"] = 130;
    cells[cells.size() - 2]["total_ms"] = 80;
    cells[cells.size() - 1]["total_ms"] = 55;
  }
  const Report report = ReportOf(cells);
  EXPECT_TRUE(report.alarms.empty());
  const Json block = Row(report, "prompts", {{"match", "block"}});
  EXPECT_EQ(block.at("new_tokens"), 2);
  EXPECT_EQ(block.at("total_speedup"), 2);
  EXPECT_EQ(Row(report, "prompts", {{"match", "token"}}).at("total_speedup"), 130.0 / 80);
  const Json two = {{"match", "token"}, {"new_tokens", 2}, {"workload", "extends"}};
  EXPECT_NEAR(Row(report, "totals", two).at("total_speedup").get<double>(), 110.0 / 60, 1e-12);
  EXPECT_TRUE(Rows(report, "totals", {{"match", "block"}, {"new_tokens", 4}}).empty());
}

Json Null(const char* prompt, int repetition, double ttft_ms, const Json& changes) {
  Json line = Base(prompt, repetition, ttft_ms, {{"schema", 2}, {"arm", "recycled"}});
  line.update(changes);
  return line;
}

// Six control prompts of the same work in every arm, and of one that is 10 % slower.
std::vector<Json> ControlCells() {
  std::vector<Json> cells;
  for (int p = 0; p < 6; ++p) {
    const std::string id = "u" + std::to_string(p);
    for (int i = 0; i < 3; ++i) {
      const Json group = {{"workload", "unrelated"}};
      const double ms = 100 + i;
      cells.push_back(Base(id.c_str(), i, ms, group));
      cells.push_back(Null(id.c_str(), i, ms * (p % 2 == 0 ? 1.002 : 0.998), group));
      cells.push_back(
          Recycled(id.c_str(), i, ms, 0,
                   {{"workload", "unrelated"}, {"prefill_ms", ms * (p % 2 == 0 ? 1.09 : 1.11)}}));
    }
  }
  return cells;
}

TEST_F(ReportTest, ControlsAreEquivalentOrDifferOrUndecided) {
  std::vector<Json> cells = ControlCells();
  const Report report = ReportOf(cells);
  const Json null = Row(report, "no_overlap", {{"policy", "off"}});
  EXPECT_EQ(null.at("prefill_verdict"), "equivalent");
  EXPECT_LT(null.at("prefill_detectable").get<double>(), 0.01);
  EXPECT_GT(null.at("prefill_power_at_5").get<double>(), 0.99);
  const Json recycled = Row(report, "no_overlap", {{"policy", "embedding"}});
  EXPECT_EQ(recycled.at("prefill_verdict"), "differs");
  EXPECT_EQ(recycled.at("decode_verdict"), "equivalent");
  EXPECT_GT(recycled.at("prefill_low").get<double>(), 0.08);
  const Json row = Row(report, "baselines", {{"what", "null variant"}});
  EXPECT_EQ(row.at("ttft_verdict"), "equivalent");
  EXPECT_NEAR(row.at("ttft_ratio").get<double>(), 1, 1e-5);
  EXPECT_EQ(Rows(report, "workloads", {{"policy", "off"}}).size(), 1u);
  EXPECT_TRUE(Says(report.claims, "The null variant"));
  EXPECT_TRUE(Says(report.claims, "equivalent within 3 %"));
  for (std::size_t i = 1; i < cells.size(); i += 3) {
    cells[i]["prefill_ms"] = cells[i]["prefill_ms"].get<double>() * (i % 2 == 0 ? 1.3 : 0.8);
  }
  EXPECT_EQ(Row(ReportOf(cells), "no_overlap", {{"policy", "off"}}).at("prefill_verdict"),
            "undecided");
}

TEST_F(ReportTest, AControlGroupWithHitsIsNone) {
  std::vector<Json> cells = ControlCells();
  cells[2].update({{"outcome", "hit"}, {"reuse_depth", 24}});
  const Report report = ReportOf(cells);
  EXPECT_TRUE(Says(report.warnings, "control group \"unrelated\" has hits"));
  EXPECT_TRUE(Rows(report, "no_overlap").empty());
}

TEST_F(ReportTest, TheRunsScheduleIsTheBaselines) {
  Json description = Description();
  description["models"][0]["baseline"] = {
      {"schedule", "free"}, {"free_chunk_tokens", 256}, {"block_ms", {9.0}}, {"free_ms", {8.0}}};
  const Json row = Row(ReportOf(Sample(), description), "prompts",
                       {{"prompt_id", "t1"}, {"policy", "embedding"}});
  EXPECT_EQ(row.at("baseline"), "free");
  EXPECT_EQ(row.at("baseline_ttft_ms"), 90);
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
  EXPECT_NE(Render(TableOf(report, "prompts"), Format::kTable).find("cand."), std::string::npos);
  cells.pop_back();
  EXPECT_EQ(Render(TableOf(ReportOf(cells), "prompts"), Format::kTable).find("cand."),
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

TEST_F(ReportTest, WhatDisturbedTheRunIsSaid) {
  std::vector<Json> cells;
  for (int i = 0; i < 5; ++i) {
    cells.push_back(Base("t1", i, i == 3 ? 250 : 100,
                         {{"wall_ms", 100}, {"other_cpu_ms", 30}, {"steal_ms", 2}}));
  }
  const Report report = ReportOf(cells);
  EXPECT_TRUE(Says(report.warnings, "1 outliers"));
  EXPECT_TRUE(Says(report.warnings, "took 30 % of a CPU, and more than 10 % in 5 of 5 cells"));
  EXPECT_TRUE(Says(report.warnings, "hypervisor took 2.0 %"));
  for (Json& cell : cells) cell.update({{"ttft_ms", 100}, {"other_cpu_ms", 0}, {"steal_ms", 0}});
  EXPECT_TRUE(ReportOf(cells).warnings.empty());
}

TEST_F(ReportTest, WholeThatNeverHitsUnderAChatTemplateIsSaid) {
  Json description = Description();
  description["config"]["template"] = "chat";
  const std::vector<Json> cells = {Base("t1", 0, 100),
                                   Recycled("t1", 0, 100, 0, {{"match", "whole"}})};
  EXPECT_TRUE(Says(ReportOf(cells, description).warnings, "never hits under a chat template"));
  EXPECT_FALSE(Says(ReportOf(cells).warnings, "chat template"));
}

// Neither a run folder's name nor a prompt's moves a terminal's cursor or colours it.
TEST_F(ReportTest, NoControlCharacterIsPrinted) {
  const std::string evil =
      "a\x1b[31m\x07\x7f\xc2\x9b"
      "b\xe2\x80\xae";
  Json description = Description();
  description["name"] = evil;
  description["environment"]["host"] = evil;
  const Report report = ReportOf({Base(evil.c_str(), 0, 100, {{"workload", evil}}),
                                  Recycled(evil.c_str(), 0, 50, 60, {{"workload", evil}})},
                                 description);
  std::vector<std::string> texts = {RenderScreen(report)};
  for (const Format format :
       {Format::kTable, Format::kMarkdown, Format::kLatex, Format::kCsv, Format::kJson}) {
    texts.push_back(Render(report, format));
  }
  for (const std::string& text : texts) {
    for (const char* bad : {"\x1b", "\x07", "\x7f", "\xc2\x9b"}) {
      EXPECT_EQ(text.find(bad), std::string::npos) << text.substr(0, 200);
    }
  }
  EXPECT_EQ(Json::parse(texts.back())["tables"][0]["rows"][0]["prompt_id"], evil);
}

std::size_t Longest(const std::string& text, std::size_t* lines) {
  std::size_t longest = 0;
  *lines = 0;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line); ++*lines) {
    longest = std::max(longest,
                       static_cast<std::size_t>(std::count_if(
                           line.begin(), line.end(), [](char c) { return (c & 0xC0) != 0x80; })));
  }
  return longest;
}

TEST_F(ReportTest, RowsAndTheScreenFit) {
  std::vector<Json> cells = ControlCells();
  for (const char* match : {"whole", "token", "block"}) {
    for (const char* codec : {"fp32", "bf16", "int8", "fp16"}) {
      for (const Json& cell : Sample()) {
        cells.push_back(cell);
        cells.back().update({{"workload", std::string(90, 'w')}, {"model", std::string(90, 'm')}});
        if (cell["arm"] == "recycled") cells.back().update({{"match", match}, {"codec", codec}});
      }
    }
  }
  cells.push_back(Recycled("t1", 7, 10, 60, WithFidelity({{"exact", false}})));
  std::vector<Run> runs;
  for (const char* name : {"one", "two", "three", "four", "five"}) {
    runs.push_back(ReadRun(WriteText(Description().dump(), Lines(cells), name)));
  }
  const Report report = BuildReport(runs);
  std::size_t lines = 0;
  EXPECT_LE(Longest(RenderScreen(report), &lines), 120u);
  EXPECT_LE(lines, 40u);
  EXPECT_GT(lines, 25u);
  EXPECT_NE(RenderScreen(report).find("more: --all"), std::string::npos);
  for (const Table& table : report.tables) {
    EXPECT_LE(Longest(Render(table, Format::kTable), &lines), 120u) << table.name;
  }
}

TEST_F(ReportTest, ATableIsFoundByItsNameOrAllAreNamed) {
  const Report report = ReportOf(Sample());
  EXPECT_EQ(FindTable(report, "paper").name, "paper");
  const Error error = ErrorOf([&] { (void)FindTable(report, "papers"); });
  EXPECT_EQ(error.kind(), Error::Kind::kInvalidInput);
  EXPECT_NE(std::string(error.what()).find("expected one of paper, prompts"), std::string::npos);
}

// Every field of run.json with a value of every wrong kind: a report or kCorrupt, nothing else.
TEST_F(ReportTest, ADamagedDescriptionIsCorruptOrStillReported) {
  const Json description = Description();
  const Json flat = description.flatten();
  for (const auto& [pointer, value] : flat.items()) {
    for (Json::json_pointer at(pointer);; at = at.parent_pointer()) {
      for (const Json& wrong : {Json(nullptr), Json(-1), Json("x"), Json::array({1, "y"}),
                                Json::object({{"k", 1}}), Json(true), Json(1e300)}) {
        Json damaged = description;
        damaged[at] = wrong;
        try {
          const Report report = ReportOf(Sample(), damaged);
          EXPECT_FALSE(RenderScreen(report).empty());
          EXPECT_FALSE(Render(report, Format::kJson).empty());
        } catch (const Error& error) {
          EXPECT_TRUE(error.kind() == Error::Kind::kCorrupt ||
                      error.kind() == Error::Kind::kIncompatible)
              << at << " " << wrong << ": " << error.what();
        }
      }
      if (at.empty()) break;
    }
  }
}

TEST_F(ReportTest, AnInexactCellThatClaimsNothingIsNoAlarm) {
  std::vector<Json> cells = Sample();
  cells[4].update(WithFidelity({{"exact", false}, {"max_abs_logit_diff", 4e-6}}));
  cells[4]["exact_claimed"] = false;
  const Report report = ReportOf(cells);
  EXPECT_TRUE(report.alarms.empty());
  EXPECT_EQ(Row(report, "exactness", {{"policy", "embedding"}}).at("exact_share"), 0.75);
}

TEST_F(ReportTest, TokensThatNoBaselineHasContradictExactness) {
  std::vector<Json> cells = Sample();
  cells[4]["tokens"] = {5, 6, 8};
  EXPECT_TRUE(Says(ReportOf(cells).alarms, "CONTRADICTION: 1 cells"));
  cells[4]["tokens"] = {5};  // stops at the first token
  cells[4]["full"] = false;
  EXPECT_TRUE(ReportOf(cells).alarms.empty());
}

TEST_F(ReportTest, ABaselineThatDiffersFromItselfIsAnAlarm) {
  std::vector<Json> cells = Sample();
  cells[11].update(WithFidelity({{"exact", false}, {"max_abs_logit_diff", 1e-6}}));
  EXPECT_TRUE(Says(ReportOf(cells).alarms, "BASELINE NOT REPEATABLE: 1"));
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

TEST_F(ReportTest, WithoutABaselineThereIsNoSpeedup) {
  const Report report =
      ReportOf({Base("t1", 0, 100), Recycled("t1", 0, 50, 60), Recycled("t2", 0, 50, 60)});
  const Json row = Row(report, "prompts", {{"prompt_id", "t2"}});
  EXPECT_TRUE(row.at("baseline_ttft_ms").is_null());
  EXPECT_TRUE(row.at("baseline").is_null());
  EXPECT_TRUE(row.at("ttft_speedup").is_null());
  EXPECT_EQ(Row(report, "workloads", {{"workload", "extends"}}).at("ttft_speedup"), 2);
  EXPECT_TRUE(Says(report.warnings, "1 prompts have recycled cells and no baseline"));
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

TEST_F(ReportTest, OnePromptHasNoVerdict) {
  const Json row = Row(ReportOf({Base("t1", 0, 100, {{"workload", "unrelated"}}),
                                 Recycled("t1", 0, 104, 0, {{"workload", "unrelated"}})}),
                       "no_overlap");
  EXPECT_TRUE(row.at("prefill_verdict").is_null());
  EXPECT_TRUE(row.at("prefill_detectable").is_null());
  EXPECT_NEAR(row.at("prefill_difference").get<double>(), 0.0, 1e-12);
}

TEST_F(ReportTest, AnEmptyRunStillMakesAReport) {
  Json description = Description();
  description["finished"] = nullptr;
  const Report report = ReportOf({}, description);
  EXPECT_TRUE(Says(report.warnings, "there are no cells"));
  EXPECT_TRUE(Says(report.warnings, "unfinished"));
  EXPECT_TRUE(Says(report.facts, "UNFINISHED"));
  EXPECT_NE(Render(report, Format::kTable).find("(nothing to show)"), std::string::npos);
  for (const Table& table : report.tables) {
    EXPECT_TRUE(table.rows.empty()) << table.name;
    EXPECT_FALSE(table.columns.empty()) << table.name;
  }
}

TEST_F(ReportTest, NoRunsMakeAnEmptyReport) {
  const Report report = BuildReport({});
  EXPECT_TRUE(report.facts.empty());
  EXPECT_FALSE(Render(report, Format::kMarkdown).empty());
}

TEST_F(ReportTest, ModelsAndRunsAreKeptApart) {
  std::vector<Json> cells = {Base("t1", 0, 100), Recycled("t1", 0, 50, 60),
                             Base("t1", 0, 400, {{"model", "other"}}),
                             Recycled("t1", 0, 100, 60, {{"model", "other"}})};
  const Run first = ReadRun(WriteText(Description().dump(), Lines(cells), "one"));
  const Run second = ReadRun(WriteText(
      Description().dump(), Lines({Base("t1", 0, 90), Recycled("t1", 0, 30, 60)}), "two"));
  const std::vector<Run> runs = {first, second};
  const Report report = BuildReport(runs);
  EXPECT_EQ(Row(report, "prompts", {{"run", "toy/one"}, {"model", "tiny"}}).at("ttft_speedup"), 2);
  EXPECT_EQ(Row(report, "prompts", {{"run", "toy/one"}, {"model", "other"}}).at("ttft_speedup"), 4);
  EXPECT_EQ(Row(report, "prompts", {{"run", "toy/two"}}).at("ttft_speedup"), 3);
  EXPECT_TRUE(Says(report.warnings, "run.json does not describe this model"));
  EXPECT_NE(Render(report, Format::kTable).find("toy/two  tiny"), std::string::npos);
  // One run of one model does not repeat them in each row.
  const Report alone = BuildReport({&runs[1], 1});
  const std::string text = Render(TableOf(alone, "prompts"), Format::kTable);
  EXPECT_EQ(text.find("toy/two"), std::string::npos);
  EXPECT_NE(Render(TableOf(alone, "prompts"), Format::kCsv).find("toy/two"), std::string::npos);
}

TEST_F(ReportTest, RepetitionsThatDisagreeOrRepeatAreSaid) {
  const std::vector<Json> cells = {Base("t1", 0, 100), Recycled("t1", 0, 50, 60),
                                   Recycled("t1", 1, 50, 59), Recycled("t1", 1, 50, 59)};
  const Report report = ReportOf(cells);
  EXPECT_TRUE(Says(report.warnings, "1 times the depth differs"));
  EXPECT_TRUE(Says(report.warnings, "1 cells repeat"));
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

TEST_F(ReportTest, ABusyMachineIsSaid) {
  Json description = Description();
  description["environment"]["load_average"] = {2.5, 0.1, 0.1};
  EXPECT_TRUE(Says(ReportOf(Sample(), description).warnings, "busy when the run began (load 2.50"));
  description["environment"] = Json::object();
  EXPECT_TRUE(Says(ReportOf(Sample(), description).facts, "load unknown"));
}

TEST_F(ReportTest, HitsThatWereNotComparedAreSaid) {
  const Report report =
      ReportOf({Base("t1", 0, 100), Recycled("t1", 0, 50, 60, {{"fidelity", nullptr}})});
  EXPECT_TRUE(Says(report.warnings, "1 hits claim to be exact and were not compared"));
  EXPECT_TRUE(Row(report, "prompts").at("exact_to_the_end").is_null());
}

TEST_F(ReportTest, AllButOneIsNotAHundredPercent) {
  std::vector<Json> cells = {Base("t1", 0, 100)};
  for (int i = 0; i < 3000; ++i) cells.push_back(Recycled("t1", i, 50, 60));
  cells[7].update(WithFidelity({{"exact", false}}));
  const std::string text = Render(TableOf(ReportOf(cells), "exactness"), Format::kTable);
  EXPECT_NE(text.find("2999 of 3000"), std::string::npos);
}

// ---- Formats ----

Table AwkwardTable() {
  Table table{"t", "A & B", "50 % of_it", {}, {}};
  table.columns = {{"run", "run", false, true}, {"name", "name", false}, {"n", "n_x"}};
  table.rows = {{{"r", "r"}, {"café, \"x\" | 10%\nnext", "café, \"x\" | 10%\nnext"}, {"1.50", 1.5}},
                {{"r", "r"}, {"# [a] \\ <b>", "# [a] \\ <b>"}, {}},
                {{"r", "r"}, {"", ""}, {"10.25", 10.25}}};
  return table;
}

TEST(Render, TextLinesUpByCharacters) {
  EXPECT_EQ(Render(AwkwardTable(), Format::kTable),
            "A & B\n"
            "=====\n"
            "name                    n_x\n"
            "café, \"x\" | 10% next   1.50\n"
            "# [a] \\ <b>               -\n"
            "                      10.25\n"
            "50 % of_it\n");
}

TEST(Render, MarkdownEscapesItsOwnCharacters) {
  EXPECT_EQ(Render(AwkwardTable(), Format::kMarkdown),
            "## A & B\n\n"
            "| name | n\\_x |\n"
            "| :--- | ---: |\n"
            "| café, \"x\" \\| 10% next | 1.50 |\n"
            "| \\# \\[a\\] \\\\ \\<b\\> | - |\n"
            "|  | 10.25 |\n"
            "\n50 % of\\_it\n");
}

TEST(Render, CsvQuotesAndLeavesMissingValuesEmpty) {
  EXPECT_EQ(Render(AwkwardTable(), Format::kCsv),
            "run,name,n\n"
            "r,\"café, \"\"x\"\" | 10%\nnext\",1.5\n"
            "r,\"# [a] \\ <b>\",\n"
            "r,,10.25\n");
}

TEST(Render, LatexEscapesAndUsesBooktabs) {
  const std::string latex = Render(AwkwardTable(), Format::kLatex);
  EXPECT_NE(latex.find("\\begin{longtable}{lr}"), std::string::npos);
  EXPECT_NE(latex.find("\\toprule\n{}name & n\\_x \\\\\n\\midrule"), std::string::npos);
  EXPECT_NE(latex.find("{}café, \"x\" \\textbar{} 10\\% next & 1.50 \\\\\n"), std::string::npos);
  EXPECT_NE(latex.find("{}\\# [a] \\textbackslash{} \\textless{}b\\textgreater{} & - \\\\\n"),
            std::string::npos);
  EXPECT_NE(latex.find("\\paragraph{A \\& B}"), std::string::npos);
}

TEST(Render, JsonKeepsFullNumbersAndNulls) {
  const Json json = Json::parse(Render(AwkwardTable(), Format::kJson));
  EXPECT_EQ(json.at("rows")[0].at("n"), 1.5);
  EXPECT_TRUE(json.at("rows")[1].at("n").is_null());
  EXPECT_EQ(json.at("rows")[0].at("name"), "café, \"x\" | 10%\nnext");
}

TEST_F(ReportTest, EveryFormatHoldsEveryTable) {
  const Report report = ReportOf(Sample());
  const Json json = Json::parse(Render(report, Format::kJson));
  EXPECT_EQ(json.at("schema"), kResultsSchema);
  ASSERT_EQ(json.at("tables").size(), report.tables.size());
  for (const Table& table : report.tables) {
    for (const Format format : {Format::kTable, Format::kMarkdown, Format::kLatex, Format::kCsv}) {
      EXPECT_NE(Render(report, format).find(table.title), std::string::npos) << table.name;
    }
    // The lines of a plain CSV of plain words all have as many commas as the head.
    std::istringstream lines(Render(table, Format::kCsv));
    for (std::string line; std::getline(lines, line);) {
      EXPECT_EQ(std::count(line.begin(), line.end(), ',') + 1, std::ssize(table.columns)) << line;
    }
  }
  EXPECT_EQ(Render(report, Format::kCsv).find("nan"), std::string::npos);
}

TEST(FormatFromString, KnowsFiveAndSaysSo) {
  EXPECT_EQ(FormatFromString("table"), Format::kTable);
  EXPECT_EQ(FormatFromString("latex"), Format::kLatex);
  const Error error = ErrorOf([] { (void)FormatFromString("html"); });
  EXPECT_EQ(error.kind(), Error::Kind::kInvalidInput);
  EXPECT_NE(std::string(error.what()).find("html"), std::string::npos);
}

// ---- Files ----

// A line of schema 1 as this version writes it: fields that it did not have are null.
Json Complete(Json line) {
  line["schema"] = kResultsSchema;
  for (const char* field : {"available_depth", "candidates", "seed", "cached_parent", "totals_ms",
                            "wall_ms", "other_cpu_ms", "steal_ms"}) {
    if (!line.contains(field)) line[field] = nullptr;
  }
  return line;
}

TEST_F(ReportTest, ACellSurvivesWritingAndReading) {
  const Json hit = Recycled("t1", 3, 50, 60,
                            {{"similarity", 0.5},
                             {"entry", "p1"},
                             {"tier", "disk"},
                             {"page_cache", "warm"},
                             {"restored_bytes", 12},
                             {"available_depth", 61},
                             {"save_ms", 2.5},
                             {"text", "é \" \n"}});
  EXPECT_EQ(ToJson(CellFromJson(hit, "here")), Complete(hit));
  const Json baseline = Complete(Line(Json::object()));
  EXPECT_EQ(ToJson(CellFromJson(baseline, "here")), baseline);
}

TEST_F(ReportTest, UnknownFieldsAreIgnored) {
  const Run run = ReadRun(Write({Line({{"colour", "blue"}})}));
  EXPECT_EQ(run.cells.size(), 1u);
  EXPECT_EQ(run.label, "toy/20260131-120000");
  EXPECT_EQ(run.control_groups, std::vector<std::string>{"unrelated"});
  EXPECT_EQ(run.fill.size(), 2u);
}

TEST_F(ReportTest, AControlGroupMayBeANameOrAListOfThem) {
  Json description = Description();
  description["config"]["control_groups"] = "unrelated";
  EXPECT_EQ(ReadRun(Write({Line(Json::object())}, description)).control_groups,
            std::vector<std::string>{"unrelated"});
  description["config"]["control_groups"] = Json::array({"unrelated", 7});
  EXPECT_THROW((void)ReadRun(Write({Line(Json::object())}, description)), Error);
}

// Wherever a crash cut the last line, the lines before it are read and the loss is said.
TEST_F(ReportTest, ATornLastLineIsLeftOutWithAWarning) {
  const std::string lines = Lines({Base("t1", 0, 100)});
  const std::string last = Lines({Recycled("t1", 0, 50, 60)});
  for (std::size_t kept = 1; kept + 1 < last.size(); kept += 7) {
    const Run run = ReadRun(WriteText(Description().dump(), lines + last.substr(0, kept)));
    ASSERT_EQ(run.cells.size(), 1u) << kept;
    ASSERT_EQ(run.warnings.size(), 1u) << kept;
    EXPECT_NE(run.warnings[0].find("cells.jsonl:2"), std::string::npos);
    EXPECT_TRUE(Says(BuildReport({&run, 1}).warnings, "the last line is cut off"));
  }
  // Only its newline is missing: the cell is whole.
  const Run whole =
      ReadRun(WriteText(Description().dump(), lines + last.substr(0, last.size() - 1)));
  EXPECT_EQ(whole.cells.size(), 2u);
  EXPECT_TRUE(whole.warnings.empty());
}

TEST_F(ReportTest, ABadLineIsCorruptAndNamed) {
  const std::string good = Lines({Base("t1", 0, 100)});
  for (const std::string& bad : {std::string("{\"schema\":1,\n"), std::string("\n"),
                                 std::string("[1]\n"), std::string("{\"a\":\"\xff\"}\n")}) {
    const fs::path folder = WriteText(Description().dump(), good + bad + good);
    const Error error = ErrorOf([&] { (void)ReadRun(folder); });
    EXPECT_EQ(error.kind(), Error::Kind::kCorrupt) << bad;
    EXPECT_NE(std::string(error.what()).find("cells.jsonl:2"), std::string::npos) << error.what();
  }
}

TEST_F(ReportTest, ImpossibleFieldsAreCorruptAndNamed) {
  const std::vector<std::pair<Json, std::string>> cases = {
      {{{"arm", "warm"}}, "\"arm\" is \"warm\", expected one of baseline, recycled"},
      {{{"schedule", "none"}}, "\"schedule\""},
      {{{"outcome", "lost"}}, "\"outcome\""},
      {{{"control", 1}}, "\"control\" is 1, expected a boolean"},
      {{{"repetition", -1}}, "\"repetition\""},
      {{{"new_tokens", 1.5}}, "\"new_tokens\" is 1.5, expected an integer"},
      {{{"ttft_ms", nullptr}}, "\"ttft_ms\" is null, expected a number"},
      {{{"ttft_ms", "fast"}}, "\"ttft_ms\""},
      {{{"embed_ms", -0.5}}, "a time of -0.5"},
      {{{"tokens", {1, "x"}}}, "\"tokens\""},
      {{{"tokens", {1, 3000000000}}}, "\"tokens\" is 3000000000"},
      {{{"restored_bytes", 1e18}}, "\"restored_bytes\""},
      {{{"new_tokens", 18446744073709551615u}}, "\"new_tokens\" is 18446744073709551615"},
      {{{"outcome", "hit"}}, "outcome \"hit\" with reuse_depth 0"},
      {{{"outcome", "hit"}, {"reuse_depth", 100}}, "reuse_depth 100 of a prompt of 100"},
      {{{"fidelity", {{"kl_mean", 0}}}}, "fidelity: field \"exact\" is missing"},
      {{{"fidelity", true}}, "expected object"},
  };
  for (const auto& [changes, message] : cases) {
    const fs::path folder = Write({Line(changes)});
    const Error error = ErrorOf([&] { (void)ReadRun(folder); });
    EXPECT_EQ(error.kind(), Error::Kind::kCorrupt) << changes;
    EXPECT_NE(std::string(error.what()).find(message), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("cells.jsonl:1"), std::string::npos) << error.what();
  }
}

TEST_F(ReportTest, EveryFieldThatMayNotBeNullIsMissed) {
  for (const char* field :
       {"schema",          "model",         "precision",     "workload",    "prompt_id",
        "repetition",      "arm",           "schedule",      "control",     "policy",
        "outcome",         "exact_claimed", "prompt_tokens", "reuse_depth", "prefill_ms",
        "ttft_ms",         "new_tokens",    "full",          "tokens",      "text",
        "truncated_tokens"}) {
    Json line = Line(Json::object());
    line.erase(field);
    const Error error = ErrorOf([&] { (void)CellFromJson(line, "here"); });
    EXPECT_EQ(error.kind(), Error::Kind::kCorrupt) << field;
    EXPECT_EQ(std::string(error.what()), "here: field \"" + std::string(field) + "\" is missing");
  }
}

TEST_F(ReportTest, ANewerSchemaIsIncompatible) {
  EXPECT_EQ(ErrorOf([&] {
              (void)ReadRun(Write({Line({{"schema", kResultsSchema + 1}})}));
            }).kind(),
            Error::Kind::kIncompatible);
  EXPECT_EQ(ErrorOf([&] {
              (void)ReadRun(Write({Line({{"schema", 0}})}));
            }).kind(),
            Error::Kind::kCorrupt);
  Json description = Description();
  description["schema"] = kResultsSchema + 1;
  const Error error = ErrorOf([&] { (void)ReadRun(Write({}, description)); });
  EXPECT_EQ(error.kind(), Error::Kind::kIncompatible);
  EXPECT_NE(std::string(error.what()).find("run.json: schema 3"), std::string::npos);
}

TEST_F(ReportTest, AMissingOrBrokenDescriptionIsNamed) {
  const fs::path folder = Write({});
  fs::remove(folder / "cells.jsonl");
  EXPECT_EQ(ErrorOf([&] { (void)ReadRun(folder); }).kind(), Error::Kind::kNotFound);
  fs::remove(folder / "run.json");
  EXPECT_EQ(ErrorOf([&] { (void)ReadRun(folder); }).kind(), Error::Kind::kNotFound);
  EXPECT_EQ(ErrorOf([&] { (void)ReadRun(WriteText("{", "")); }).kind(), Error::Kind::kCorrupt);
  Json description = Description();
  description["fill"][1].erase("save_ms");
  const Error error = ErrorOf([&] { (void)ReadRun(Write({}, description)); });
  EXPECT_EQ(error.kind(), Error::Kind::kCorrupt);
  EXPECT_NE(std::string(error.what()).find("fill[1]: field \"save_ms\" is missing"),
            std::string::npos)
      << error.what();
}

}  // namespace
}  // namespace kvr::report
