// Alarms, facts, warnings and sentences.
#include <cmath>

#include "report_fixture.h"
#include "testing.h"

namespace kvr::report {
namespace {

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
  EXPECT_TRUE(Render(report, "table").starts_with("!!! EXACTNESS VIOLATED"));
  EXPECT_TRUE(Render(report, "markdown").starts_with("- **EXACTNESS VIOLATED"));
  EXPECT_TRUE(Render(report, "csv").starts_with("# EXACTNESS VIOLATED"));
  EXPECT_NE(Render(report, "latex").find("\\textbf{EXACTNESS VIOLATED"), std::string::npos);
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

TEST_F(ReportTest, AControlGroupWithHitsIsNone) {
  std::vector<Json> cells = ControlCells();
  cells[2].update({{"outcome", "hit"}, {"reuse_depth", 24}});
  const Report report = ReportOf(cells);
  EXPECT_TRUE(Says(report.warnings, "control group \"unrelated\" has hits"));
  EXPECT_TRUE(Rows(report, "no_overlap").empty());
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

TEST_F(ReportTest, WhatEndedTheRoundsIsSaid) {
  Json description = Description();
  Json& rounds = description["models"][0]["repetitions"];
  const auto report_of = [&](const Json& changes) {
    rounds = {{"rounds", 7},
              {"stopped_by", "width"},
              {"wanted_width", 0.05},
              {"width", 0.043},
              {"interval_width", 0.049}};
    rounds.update(changes);
    return ReportOf(Sample(), description);
  };
  const std::vector<std::string> enough = report_of(Json::object()).facts;
  EXPECT_TRUE(Says(enough,
                   "7 rounds, enough: their noise leaves the interval of the first way's "
                   "speed-up 4.3 % wide, 5.0 % were asked"));
  EXPECT_FALSE(Says(enough, "more prompts"));
  EXPECT_TRUE(
      Says(report_of({{"interval_width", 0.17}}).facts, "is 17.0 % wide, as prompts differ"));
  const Report capped = report_of({{"stopped_by", "most"}, {"width", 0.061}});
  EXPECT_TRUE(Says(capped.warnings, "7 rounds, the most allowed"));
  EXPECT_TRUE(Says(capped.warnings, "a quieter machine narrows it"));
  // A fixed number, and a run that is not so far, have no rule to speak of.
  for (const char* unknown : {"rounds", "wanted_width", "width"}) {
    const Report report = report_of({{unknown, nullptr}});
    EXPECT_FALSE(Says(report.facts, "rounds, ")) << unknown;
    EXPECT_FALSE(Says(report.warnings, "rounds, ")) << unknown;
  }
}

TEST_F(ReportTest, WholeThatNeverHitsUnderAChatTemplateIsSaid) {
  Json description = Description();
  description["config"]["template"] = "chat";
  const std::vector<Json> cells = {Base("t1", 0, 100),
                                   Recycled("t1", 0, 100, 0, {{"match", "whole"}})};
  EXPECT_TRUE(Says(ReportOf(cells, description).warnings, "never hits under a chat template"));
  EXPECT_FALSE(Says(ReportOf(cells).warnings, "chat template"));
}

// Every field of run.json with a value of every wrong kind: a report or kCorrupt, nothing else.
TEST_F(ReportTest, ADamagedDescriptionIsCorruptOrStillReported) {
  const Json description = Description();
  const Json flat = description.flatten();
  int tried = 0;
  for (const auto& [pointer, value] : flat.items()) {
    for (Json::json_pointer at(pointer);; at = at.parent_pointer()) {
      for (const Json& wrong : {Json(nullptr), Json(-1), Json("x"), Json::array({1, "y"}),
                                Json::object({{"k", 1}}), Json(true), Json(1e300)}) {
        if (tried++ % testing::kOneIn != 0) continue;
        Json damaged = description;
        damaged[at] = wrong;
        try {
          const Report report = ReportOf(Sample(), damaged);
          EXPECT_FALSE(RenderScreen(report).empty());
          EXPECT_FALSE(Render(report, "json").empty());
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

TEST_F(ReportTest, RepetitionsThatDisagreeOrRepeatAreSaid) {
  const std::vector<Json> cells = {Base("t1", 0, 100), Recycled("t1", 0, 50, 60),
                                   Recycled("t1", 1, 50, 59), Recycled("t1", 1, 50, 59)};
  const Report report = ReportOf(cells);
  EXPECT_TRUE(Says(report.warnings, "1 times the depth differs"));
  EXPECT_TRUE(Says(report.warnings, "1 cells repeat"));
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

TEST_F(ReportTest, AnEmptyRunStillMakesAReport) {
  Json description = Description();
  description["finished"] = nullptr;
  const Report report = ReportOf({}, description);
  EXPECT_TRUE(Says(report.warnings, "there are no cells"));
  EXPECT_TRUE(Says(report.warnings, "unfinished"));
  EXPECT_TRUE(Says(report.facts, "UNFINISHED"));
  EXPECT_NE(Render(report, "table").find("(nothing to show)"), std::string::npos);
  for (const Table& table : report.tables) {
    EXPECT_TRUE(table.rows.empty()) << table.name;
    EXPECT_FALSE(table.columns.empty()) << table.name;
  }
}

TEST_F(ReportTest, NoRunsMakeAnEmptyReport) {
  const Report report = BuildReport({});
  EXPECT_TRUE(report.facts.empty());
  EXPECT_FALSE(Render(report, "markdown").empty());
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
  EXPECT_NE(Render(report, "table").find("toy/two  tiny"), std::string::npos);
  // One run of one model does not repeat them in each row.
  const Report alone = BuildReport({&runs[1], 1});
  const std::string text = Render(TableNamed(alone, "prompts"), "table");
  EXPECT_EQ(text.find("toy/two"), std::string::npos);
  EXPECT_NE(Render(TableNamed(alone, "prompts"), "csv").find("toy/two"), std::string::npos);
}

TEST_F(ReportTest, WhatWasWrongWithTheFilesIsSaid) {
  const Run run = ReadRun(WriteText(Description().dump(), Lines({Base("t1", 0, 100)}) + "{\"sch"));
  EXPECT_TRUE(Says(BuildReport({&run, 1}).warnings, "the last line is cut off"));
}

}  // namespace
}  // namespace kvr::report
