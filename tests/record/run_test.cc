#include "run_fixture.h"

namespace kvr::record {
namespace {

// ---- Files ----

// A line of schema 1 as this version writes it: fields that it did not have are null.
Json Complete(Json line) {
  line["schema"] = kResultsSchema;
  for (const char* field :
       {"available_depth", "candidates", "seed", "cached_parent", "totals_ms", "wall_ms",
        "other_cpu_ms", "steal_ms", "asked_page_cache", "session", "turn", "history_tokens",
        "expected_depth", "work", "peak_memory_bytes"}) {
    if (!line.contains(field)) line[field] = nullptr;
  }
  for (const char* field : {"tier", "save_ms"}) line.erase(field);  // no longer written
  return line;
}

TEST_F(RunTest, ACellSurvivesWritingAndReading) {
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

TEST_F(RunTest, UnknownFieldsAreIgnored) {
  const Run run = ReadRun(Write({Line({{"colour", "blue"}})}));
  EXPECT_EQ(run.cells.size(), 1u);
  EXPECT_EQ(run.label, "toy/20260131-120000");
  EXPECT_EQ(run.control_groups, std::vector<std::string>{"unrelated"});
  EXPECT_EQ(run.fill.size(), 2u);
}

TEST_F(RunTest, AControlGroupMayBeANameOrAListOfThem) {
  Json description = Description();
  description["config"]["control_groups"] = "unrelated";
  EXPECT_EQ(ReadRun(Write({Line(Json::object())}, description)).control_groups,
            std::vector<std::string>{"unrelated"});
  description["config"]["control_groups"] = Json::array({"unrelated", 7});
  EXPECT_THROW((void)ReadRun(Write({Line(Json::object())}, description)), Error);
}

TEST_F(RunTest, WhyTheRoundsEndedAndTheWholeConfigSurvive) {
  Json description = Description();
  const Json full = {{"seed", 0}, {"long_prompts", nullptr}};
  const Json rounds = {{"rounds", 7},
                       {"stopped_by", "width"},
                       {"wanted_width", 0.05},
                       {"width", 0.04},
                       {"interval_width", nullptr}};
  description["config_in_full"] = full;
  description["models"][0]["repetitions"] = rounds;
  const Json again = ToJson(ReadRun(Write({}, description)));
  EXPECT_EQ(again.at("config_in_full"), full);
  EXPECT_EQ(again.at("models")[0].at("repetitions"), rounds);
  // Runs from before say nothing of either.
  EXPECT_EQ(ReadRun(Write({})).models.at(0).repetitions.rounds, std::nullopt);
  for (const auto& [field, wrong] : std::vector<std::pair<const char*, Json>>{
           {"stopped_by", "boredom"}, {"rounds", -1}, {"width", "narrow"}}) {
    Json damaged = description;
    damaged["models"][0]["repetitions"][field] = wrong;
    const Error error = ErrorOf([&] { (void)ReadRun(Write({}, damaged)); });
    EXPECT_EQ(error.kind(), Error::Kind::kCorrupt) << field;
    EXPECT_NE(std::string(error.what()).find(field), std::string::npos) << error.what();
  }
}

// Wherever a crash cut the last line, the lines before it are read and the loss is said.
TEST_F(RunTest, ATornLastLineIsLeftOutWithAWarning) {
  const std::string lines = Lines({Base("t1", 0, 100)});
  const std::string last = Lines({Recycled("t1", 0, 50, 60)});
  for (std::size_t kept = 1; kept + 1 < last.size(); kept += 7) {
    const Run run = ReadRun(WriteText(Description().dump(), lines + last.substr(0, kept)));
    ASSERT_EQ(run.cells.size(), 1u) << kept;
    ASSERT_EQ(run.warnings.size(), 1u) << kept;
    EXPECT_NE(run.warnings[0].find("cells.jsonl:2"), std::string::npos);
    EXPECT_TRUE(Says(run.warnings, "the last line is cut off"));
  }
  // Only its newline is missing: the cell is whole.
  const Run whole =
      ReadRun(WriteText(Description().dump(), lines + last.substr(0, last.size() - 1)));
  EXPECT_EQ(whole.cells.size(), 2u);
  EXPECT_TRUE(whole.warnings.empty());
}

TEST_F(RunTest, ABadLineIsCorruptAndNamed) {
  const std::string good = Lines({Base("t1", 0, 100)});
  for (const std::string& bad : {std::string("{\"schema\":1,\n"), std::string("\n"),
                                 std::string("[1]\n"), std::string("{\"a\":\"\xff\"}\n")}) {
    const fs::path folder = WriteText(Description().dump(), good + bad + good);
    const Error error = ErrorOf([&] { (void)ReadRun(folder); });
    EXPECT_EQ(error.kind(), Error::Kind::kCorrupt) << bad;
    EXPECT_NE(std::string(error.what()).find("cells.jsonl:2"), std::string::npos) << error.what();
  }
}

TEST_F(RunTest, ImpossibleFieldsAreCorruptAndNamed) {
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

TEST_F(RunTest, EveryFieldThatMayNotBeNullIsMissed) {
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

TEST_F(RunTest, ANewerSchemaIsIncompatible) {
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

TEST_F(RunTest, AMissingOrBrokenDescriptionIsNamed) {
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
}  // namespace kvr::record
