// The study of look-ups from the outside.
#include "cli_fixture.h"

namespace kvr {
namespace {

class RetrievalCliTest : public CliTest {
 protected:
  RetrievalCliTest() {
    std::string text;
    for (int i = 0; i < 600; ++i) {
      text += "{\"text\":\"The ship " + std::to_string(i) + " came in with cargo " +
              std::to_string(i * 31 % 601) + ".\"}\n";
    }
    WriteAndRename(folder_.path() / "text.jsonl", text);
    const Json config = {{"workload", "retrieval"},
                         {"models", testing::TinyModel("tiny-gpt2").string()},
                         {"encoder", testing::TinyModel("tiny-bert").string()},
                         {"texts", "text.jsonl"},
                         {"distractors", {5, 20}},
                         {"distractor_words", 8},
                         {"queries", 2},
                         {"query_words", {8, 40}},
                         {"policies", {"embedding", "prefix"}},
                         {"repetitions", 1}};
    WriteAndRename(folder_.path() / "look.json", config.dump());
  }
};

TEST_F(RetrievalCliTest, AStudyOfLookupsMakesARunThatTheReportReads) {
  // Two sizes, six kinds of two queries, two policies.
  EXPECT_NE(Run({"sweep", "look.json", "--dry-run"}).out.find("48 look-ups"), std::string::npos);
  const Result sweep = Run({"sweep", "look.json"});
  ASSERT_EQ(sweep.code, 0) << sweep.err;
  const auto folder = folder_.path() / "results" / "look" / "latest";
  EXPECT_EQ(CountLines(ReadFile(folder / "lookups.jsonl")), 48u);
  EXPECT_EQ(ReadFile(folder / "cells.jsonl"), "");
  const Result screen = Run({"report", folder.string()});
  ASSERT_EQ(screen.code, 0) << screen.err;
  EXPECT_NE(screen.out.find("48 look-ups"), std::string::npos);
  EXPECT_NE(screen.out.find("prefix/token among 38 entries: 1.000 of the depth"), std::string::npos)
      << screen.out;
  const Result report = Run({"report", folder.string(), "--table", "retrieval", "--json"});
  ASSERT_EQ(report.code, 0) << report.err;
  const Json table = Json::parse(report.out);
  for (const Json& row : table.at("rows")) {
    if (row["policy"] == "prefix") {
      EXPECT_EQ(row["recall"], 1) << row;
    }
  }
  for (const char* format : {"table", "markdown", "csv", "latex", "json"}) {
    EXPECT_EQ(Run({"report", folder.string(), "--format", format}).code, 0) << format;
  }
}

TEST_F(RetrievalCliTest, AMistakeIsFoundBeforeAnythingIsMade) {
  for (const char* setting : {"distractors=900", "texts=[]", "max_new_tokens=3", "query_words=1"}) {
    const Result result = Run({"sweep", "look.json", "--set", setting});
    EXPECT_EQ(result.code, 2) << setting;
    EXPECT_FALSE(result.err.empty());
  }
  EXPECT_EQ(Run({"sweep", "look.json", "--set", "texts=absent.txt"}).code, 3);
  EXPECT_FALSE(std::filesystem::exists(folder_.path() / "results"));
}

}  // namespace
}  // namespace kvr
