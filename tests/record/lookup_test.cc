#include "kvr/record/lookup.h"

#include "kvr/record/run_folder.h"
#include "lookup_fixture.h"

namespace kvr::record {
namespace {

TEST_F(LookupTest, LookupsAreReadBackAsTheyWereWritten) {
  const fs::path folder = WriteLookups({LookupLine(), LookupLine({{"prompt_id", "t2"}})});
  const Run run = ReadRun(folder);
  ASSERT_EQ(run.lookups.size(), 2u);
  EXPECT_TRUE(run.warnings.empty());
  Json written = LookupLine();
  EXPECT_EQ(ToJson(run.lookups[0]), written);
  EXPECT_NE(Identity(run.lookups[0]), Identity(run.lookups[1]));
}

TEST_F(LookupTest, ALookupThatCannotBeIsCorruptAndItsLineNamed) {
  for (const auto& [key, value] :
       std::vector<std::pair<std::string, Json>>{{"reuse_depth", 31},      // of 30 available
                                                 {"available_depth", 40},  // of 40 tokens
                                                 {"lookup_ms", -1.0},
                                                 {"embed_ms", -1.0},
                                                 {"pieces", "many"},
                                                 {"rank", 1.5},
                                                 {"policy", nullptr}}) {
    const fs::path folder = WriteLookups({LookupLine(), LookupLine({{key, value}})});
    const Error error = ErrorOf([&] { (void)ReadRun(folder); });
    EXPECT_EQ(error.kind(), Error::Kind::kCorrupt) << key;
    EXPECT_NE(std::string(error.what()).find("lookups.jsonl:2"), std::string::npos) << error.what();
  }
  Json line = LookupLine();
  line.erase("match");
  EXPECT_EQ(ErrorOf([&] { (void)ReadRun(WriteLookups({line})); }).kind(), Error::Kind::kCorrupt);
  EXPECT_EQ(ErrorOf([&] {
              (void)ReadRun(WriteLookups({LookupLine({{"schema", 99}})}));
            }).kind(),
            Error::Kind::kIncompatible);
}

TEST_F(LookupTest, StrayRepeatedAndTornLookupsAreLeftOutAloud) {
  const fs::path folder =
      WriteLookups({LookupLine(), LookupLine(), LookupLine({{"prompt_id", "elsewhere"}}),
                    LookupLine({{"model", "another"}})});
  std::ofstream(folder / "lookups.jsonl", std::ios::app) << "{\"schema\":2,\"mo";
  const Run run = ReadRun(folder);
  EXPECT_EQ(run.lookups.size(), 1u);
  EXPECT_TRUE(Says(run.warnings, "3 look-ups repeat"));
  EXPECT_TRUE(Says(run.warnings, "lookups.jsonl:2"));
  EXPECT_TRUE(Says(run.warnings, "lookups.jsonl:5: the last line is cut off"));
  const RunFolder open(folder);
  open.DropTornLines();
  EXPECT_FALSE(Says(ReadRun(folder).warnings, "cut off"));
}

TEST_F(LookupTest, LookupsWithoutARunAreNobodys) {
  const fs::path folder = WriteLookups({LookupLine()});
  fs::remove(folder / "run.json");
  const Error error = ErrorOf([&] { CheckFree(folder); });
  EXPECT_NE(std::string(error.what()).find("lookups.jsonl"), std::string::npos) << error.what();
}

}  // namespace
}  // namespace kvr::record
