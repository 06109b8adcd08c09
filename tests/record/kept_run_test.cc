// The file that a repository keeps of a run.
#include "kvr/record/kept_run.h"

#include "kvr/base/file.h"
#include "run_fixture.h"

namespace kvr::record {
namespace {

std::vector<Json> SomeCells() {
  const Json work = {{"prefilled_tokens", 40},
                     {"forward_passes", 3},
                     {"restored_blocks", 1},
                     {"compared_entries", 2},
                     {"opened_files", 2}};
  return {Base("t1", 0, 100.123456789, {{"totals_ms", {{"2", 110.0}, {"3", 120.0}}}}),
          Base("t2", 0, 90),
          Recycled("t1", 0, 30, 60,
                   {{"work", work}, {"restored_bytes", 4096}, {"available_depth", 61}}),
          Recycled("t2", 0, 80, 0, {{"tokens", {5, 6, 8}}, {"session", "s"}, {"turn", 2}})};
}

class KeptRunTest : public RunTest {
 protected:
  Run ReadCellsOf(const std::vector<Json>& cells) { return ReadRun(Write(cells)); }
  static Error RefusedWith(const std::string& text) {
    return ErrorOf([&] { (void)ReadKeptText(text, "kept.json"); });
  }
};

TEST_F(KeptRunTest, KeepsAllThatAComparisonReads) {
  const Run run = ReadCellsOf(SomeCells());
  const Run kept = ReadKeptText(KeptText(run), "kept.json");
  EXPECT_EQ(kept.label, "kept.json");
  EXPECT_EQ(kept.config, run.config);
  EXPECT_EQ(kept.prompts_sha256, run.prompts_sha256);
  EXPECT_EQ(kept.environment.at("cpu_model"), "Testium 2");
  EXPECT_FALSE(kept.environment.contains("host"));
  EXPECT_EQ(kept.models.at(0).fingerprint, run.models.at(0).fingerprint);
  EXPECT_EQ(kept.models.at(0).probe_exact, true);
  ASSERT_EQ(kept.cells.size(), run.cells.size());
  for (std::size_t i = 0; i < run.cells.size(); ++i) {
    const Cell &a = run.cells[i], &b = kept.cells[i];
    EXPECT_EQ(Identity(a), Identity(b));
    EXPECT_EQ(a.tokens, b.tokens);
    EXPECT_EQ(a.work, b.work);
    EXPECT_EQ(a.session, b.session);
    EXPECT_EQ(a.limited_by, b.limited_by);
    EXPECT_EQ(a.reuse_depth, b.reuse_depth);
    EXPECT_EQ(a.available_depth, b.available_depth);
    EXPECT_EQ(a.restored_bytes, b.restored_bytes);
    EXPECT_EQ(a.fidelity.has_value(), b.fidelity.has_value());
    EXPECT_NEAR(a.ttft_ms, b.ttft_ms, a.ttft_ms * 1e-4);
    EXPECT_TRUE(b.text.empty());
  }
  EXPECT_EQ(kept.cells[0].totals_ms->at(3), 120);
  EXPECT_EQ(kept.cells[2].fidelity->exact, true);
}

// One line a cell, and the same text from what was read: a repository's diff shows what changed.
TEST_F(KeptRunTest, IsTheSameTextWhenKeptAgain) {
  const std::string text = KeptText(ReadCellsOf(SomeCells()));
  EXPECT_EQ(KeptText(ReadKeptText(text, "kept.json")), text);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 6 + 2 + 2 + 4 + 2);
  EXPECT_EQ(text.find("five six seven"), std::string::npos);
}

TEST_F(KeptRunTest, OfOneCellAllIsCommon) {
  const Run kept = ReadKeptText(KeptText(ReadCellsOf({Base("t1", 0, 100)})), "kept.json");
  ASSERT_EQ(kept.cells.size(), 1u);
  EXPECT_EQ(kept.cells[0].tokens, (Tokens{5, 6, 7}));
}

TEST_F(KeptRunTest, WhatIsDamagedIsRefusedByItsPlace) {
  const Json good = Json::parse(KeptText(ReadCellsOf(SomeCells())));
  ASSERT_NO_THROW((void)ReadKeptText(good.dump(), "kept.json"));
  const auto with = [&](const std::string& pointer, const Json& value) {
    Json bad = good;
    bad[Json::json_pointer(pointer)] = value;
    return bad.dump();
  };
  for (const std::string& bad : {std::string("no json"),
                                 std::string("[]"),
                                 std::string("{}"),
                                 std::string("7"),
                                 with("/kvr_baseline", "1"),
                                 with("/run", 1),
                                 with("/run/config", 1),
                                 with("/outputs", 1),
                                 with("/outputs/0", 1),
                                 with("/outputs/0/0", -1),
                                 with("/common", 1),
                                 with("/fields", 1),
                                 with("/fields/0", 1),
                                 with("/cells", 1),
                                 with("/cells/1", 1),
                                 with("/cells/1", Json::array()),
                                 with("/cells/1", good["cells"][0]),
                                 with("/common/output", 99),
                                 with("/common/output", -1),
                                 with("/common/work", 3),
                                 with("/common/model", "another"),
                                 with("/common/schedule", "third")}) {
    const Error error = RefusedWith(bad);
    EXPECT_EQ(error.kind(), Error::Kind::kCorrupt) << bad.substr(0, 200);
    EXPECT_NE(std::string(error.what()).find("kept.json"), std::string::npos) << error.what();
  }
  EXPECT_EQ(RefusedWith(with("/kvr_baseline", 2)).kind(), Error::Kind::kIncompatible);
  EXPECT_EQ(RefusedWith(with("/run/schema", 99)).kind(), Error::Kind::kIncompatible);
}

TEST_F(KeptRunTest, IsReadAsAFolderIs) {
  const fs::path folder = Write(SomeCells());
  const fs::path file = folder / "kept.json";
  WriteAndRename(file, KeptText(ReadRun(folder)));
  EXPECT_EQ(ReadRunOrKept(folder).cells.size(), 4u);
  EXPECT_EQ(ReadRunOrKept(file).cells.size(), 4u);
  EXPECT_EQ(ErrorOf([&] { (void)ReadRunOrKept(folder / "absent"); }).kind(),
            Error::Kind::kNotFound);
}

}  // namespace
}  // namespace kvr::record
