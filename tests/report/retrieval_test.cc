// The tables of look-ups.
#include "record/lookup_fixture.h"
#include "report_fixture.h"

namespace kvr::report {
namespace {

class RetrievalTableTest : public LookupTest {
 protected:
  Report ReportOf(const std::vector<Json>& lookups) {
    const Run run = ReadRun(WriteLookups(lookups));
    return BuildReport({&run, 1});
  }
};

// t1 found 20 of 30, t2 all of 30, t3 nothing of 10, t4 has nothing to find; t5 is a control that
// shares two tokens by chance. The prefix policy found all, and 1,000 distractors cost t1 the rest.
std::vector<Json> Lookups() {
  return {LookupLine({{"embed_ms", 4.0}, {"lookup_ms", 1.0}}),
          LookupLine({{"repetition", 1}, {"embed_ms", 8.0}, {"lookup_ms", 9.0}}),
          LookupLine({{"repetition", 2}, {"embed_ms", 5.0}, {"lookup_ms", 2.0}}),
          LookupLine({{"prompt_id", "t2"},
                      {"reuse_depth", 30},
                      {"rank", 1},
                      {"pieces", 64},
                      {"embed_ms", 6.0},
                      {"lookup_ms", 3.0}}),
          LookupLine({{"prompt_id", "t3"},
                      {"workload", "shifted"},
                      {"reuse_depth", 0},
                      {"available_depth", 10},
                      {"pieces", 65},
                      {"rank", 7},
                      {"embed_ms", 7.0},
                      {"lookup_ms", 4.0}}),
          LookupLine({{"prompt_id", "t4"},
                      {"reuse_depth", 0},
                      {"available_depth", 0},
                      {"pieces", 1025},
                      {"rank", nullptr},
                      {"embed_ms", 90.0},
                      {"lookup_ms", 5.0}}),
          LookupLine({{"prompt_id", "t5"},
                      {"workload", "unrelated"},
                      {"control", true},
                      {"reuse_depth", 0},
                      {"available_depth", 2},
                      {"rank", 50}}),
          LookupLine({{"policy", "prefix"},
                      {"candidates", nullptr},
                      {"similarity", nullptr},
                      {"rank", nullptr},
                      {"embed_ms", nullptr},
                      {"reuse_depth", 30},
                      {"lookup_ms", 0.5}}),
          LookupLine({{"distractors", 1000}, {"entries", 1020}, {"reuse_depth", 0}})};
}

TEST_F(RetrievalTableTest, RecallIsTheMeanShareOfWhatWasThere) {
  const Report report = ReportOf(Lookups());
  const Json all =
      Row(report, "retrieval",
          {{"distractors", 100}, {"policy", "embedding"}, {"k", 1}, {"pieces", "all"}});
  EXPECT_EQ(all.at("entries"), 120);
  EXPECT_EQ(all.at("queries"), 4);
  EXPECT_NEAR(all.at("recall").get<double>(), (2.0 / 3 + 1 + 0) / 3, 1e-12);
  EXPECT_NEAR(all.at("recall_low").get<double>(), 0.1507, 1e-4);
  EXPECT_NEAR(all.at("recall_high").get<double>(), 0.8980, 1e-4);
  EXPECT_NEAR(all.at("found_all").get<double>(), 1.0 / 3, 1e-12);
  EXPECT_EQ(all.at("available_depth"), 70.0 / 4);
  EXPECT_EQ(all.at("rank_median"), 2);
  EXPECT_EQ(all.at("embed_ms"), 6.5);   // of 5, 6, 7, 90
  EXPECT_EQ(all.at("lookup_ms"), 3.5);  // of 2, 3, 4, 5
  const Json prefix = Row(report, "retrieval", {{"policy", "prefix"}, {"pieces", "all"}});
  EXPECT_EQ(prefix.at("recall"), 1);
  EXPECT_TRUE(prefix.at("embed_ms").is_null());
  EXPECT_TRUE(prefix.at("rank_median").is_null());
  EXPECT_EQ(Row(report, "retrieval", {{"distractors", 1000}, {"pieces", "all"}}).at("recall"), 0);
}

TEST_F(RetrievalTableTest, ALengthCountsInTheBucketThatItEnds) {
  const Report report = ReportOf(Lookups());
  const auto row = [&](const char* pieces) {
    return Row(report, "retrieval",
               {{"distractors", 100}, {"policy", "embedding"}, {"pieces", pieces}});
  };
  EXPECT_EQ(row("1-64").at("queries"), 2);
  EXPECT_EQ(row("65-128").at("queries"), 1);
  const Json longest = row("1025+");
  EXPECT_EQ(longest.at("queries"), 1);
  EXPECT_TRUE(longest.at("recall").is_null());  // nothing was there
  EXPECT_TRUE(longest.at("recall_low").is_null());
  EXPECT_TRUE(longest.at("found_all").is_null());
  EXPECT_TRUE(Rows(report, "retrieval", {{"pieces", "129-256"}}).empty());
}

TEST_F(RetrievalTableTest, ControlsAreAKindOfTheirOwn) {
  const Report report = ReportOf(Lookups());
  const auto row = [&](const char* workload) {
    return Row(report, "retrieval_kinds",
               {{"distractors", 100}, {"policy", "embedding"}, {"workload", workload}});
  };
  EXPECT_EQ(row("unrelated").at("queries"), 1);
  EXPECT_EQ(row("unrelated").at("available_depth"), 2);
  EXPECT_EQ(row("shifted").at("recall"), 0);
  EXPECT_EQ(row("extends").at("queries"), 3);
}

TEST_F(RetrievalTableTest, TheScreenSaysWhatWasFoundAmongMost) {
  const Report report = ReportOf(Lookups());
  EXPECT_TRUE(Says(report.facts, "9 look-ups"));
  ASSERT_EQ(report.claims.size(), 1u);
  EXPECT_EQ(report.claims[0],
            "embedding/token, 1 candidate among 1020 entries: 0.000 of the depth that was there, "
            "all of it for 0 of 1 queries; look-up 1.00 ms, the query's embedding 4.00 ms "
            "(medians).");
  EXPECT_FALSE(Says(report.warnings, "there are no cells"));
  EXPECT_TRUE(report.alarms.empty());
}

TEST_F(RetrievalTableTest, ARunOfCellsHasNoneOfTheseRows) {
  const Run run = ReadRun(Write(Sample()));
  const Report report = BuildReport({&run, 1});
  EXPECT_TRUE(Rows(report, "retrieval").empty());
  EXPECT_TRUE(Rows(report, "retrieval_kinds").empty());
}

}  // namespace
}  // namespace kvr::report
