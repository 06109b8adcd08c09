// A comparison as text, Markdown, JSON and JUnit's XML, whatever prompts are called.
#include <cstdio>
#include <cstdlib>

#include "compare_fixture.h"
#include "kvr/base/file.h"
#include "kvr/record/kept_run.h"
#include "testing.h"

namespace kvr::report {
namespace {

const std::string kEvil =
    "a|b\"c'd\n| <script>alert(1)</script> & ]]> <!-- \\ ` \x1b[31m \x01 \xff \xef\xbf\xbf "
    "\xe2\x80\xae";

// A run with a regression, an improvement, a slower and a faster time, all of evil names.
Comparison EvilComparison() {
  record::Run base = ToyRun(kEvil);
  for (Cell& cell : base.cells) {
    cell.prompt_id += kEvil;
    cell.workload += kEvil;
    cell.model = kEvil;
  }
  base.models[0].name = kEvil;
  base.warnings = {kEvil};
  record::Run now = base;
  now.environment["cpu_model"] = kEvil;
  Cell& cell = now.cells[3];
  cell.limited_by = kEvil;
  cell.work->opened_files = 1;
  for (Cell& one : now.cells) {
    if (one.hit()) one.ttft_ms *= 2, *one.restore_ms /= 2;
  }
  return Compare(base, now, {});
}

std::string Rendered(const char* format, const Comparison& comparison) {
  return FindCompareFormat(format).render(comparison);
}

// By a parser that is not ours.
int PythonReads(const std::string& text, const std::string& script) {
  const testing::TempFolder folder;
  const std::filesystem::path file = folder.path() / "out";
  WriteAndRename(file, text);
  return std::system(("python3 -c '" + script + "' " + file.string()).c_str());
}

TEST(CompareFormats, JunitIsWellFormedXmlAndCountsItsTests) {
  for (const Comparison& comparison : {EvilComparison(), Compare(ToyRun("a"), ToyRun("b"), {}),
                                       Compare(ToyRun("a"), ToyRun("b"), {.times = false})}) {
    const std::string xml = Rendered("junit", comparison);
    EXPECT_EQ(PythonReads(xml,
                          "import sys, xml.etree.ElementTree as E\n"
                          "root = E.parse(sys.argv[1]).getroot()\n"
                          "assert root.tag == \"testsuites\"\n"
                          "cases = root.findall(\"testsuite/testcase\")\n"
                          "assert len(cases) == int(root.get(\"tests\")) > 0\n"
                          "failures = root.findall(\"testsuite/testcase/failure\")\n"
                          "assert len(failures) == int(root.get(\"failures\"))\n"
                          "assert len({c.get(\"classname\") + c.get(\"name\") for c in cases}) == "
                          "len(cases)\n"),
              0)
        << xml;
    EXPECT_EQ(xml.find("<failure") != std::string::npos, comparison.Regressed());
  }
}

TEST(CompareFormats, NoNameBreaksMarkdown) {
  const std::string markdown = Rendered("markdown", EvilComparison());
  for (std::size_t at = markdown.find('<'); at != std::string::npos;
       at = markdown.find('<', at + 1)) {
    EXPECT_EQ(markdown[at - 1], '\\');
  }
  std::istringstream lines(markdown);
  std::size_t columns = 0;
  for (std::string line; std::getline(lines, line);) {
    const bool row = line.starts_with("| ");
    std::size_t bars = 0;
    for (std::size_t i = 0; i < line.size(); ++i) {
      if (line[i] == '|' && (i == 0 || line[i - 1] != '\\')) ++bars;
    }
    if (row && columns > 0) {
      EXPECT_EQ(bars, columns) << line;
    }
    columns = row ? bars : 0;
  }
  EXPECT_NE(markdown.find("# Regression"), std::string::npos);
}

TEST(CompareFormats, NoControlCharacterIsPrinted) {
  for (const CompareFormat& format : CompareFormats()) {
    const std::string text = Rendered(format.name, EvilComparison());
    for (const char* bad : {"\x1b", "\x01", "\xff", "\xe2\x80\xae"}) {
      EXPECT_EQ(text.find(bad), std::string::npos) << format.name;
    }
  }
}

TEST(CompareFormats, JsonHasItAllForPrograms) {
  const Json json = Json::parse(Rendered("json", EvilComparison()));
  EXPECT_EQ(json.at("kvr_comparison"), 1);
  EXPECT_EQ(json.at("regressed"), true);
  ASSERT_EQ(json.at("changes").size(), 2u);
  EXPECT_EQ(json.at("changes")[0].at("field"), "limited_by");
  EXPECT_EQ(json.at("changes")[1].at("regression"), false);
  EXPECT_EQ(json.at("times")[0].at("metric"), "ttft");
  EXPECT_EQ(json.at("times")[0].at("verdict"), "slower");
  EXPECT_EQ(json.at("times")[0].at("ratio"), 2.0);
}

TEST(CompareFormats, TextEndsWithTheVerdict) {
  const std::string bad = Rendered("table", EvilComparison());
  EXPECT_TRUE(bad.ends_with("REGRESSION\n")) << bad;
  EXPECT_NE(bad.find("limited_by"), std::string::npos);
  const std::string good = Rendered("table", Compare(ToyRun("a"), ToyRun("b"), {}));
  EXPECT_TRUE(good.ends_with("no regression\n")) << good;
  EXPECT_NE(good.find("48 cells compared exactly: 0 regressions"), std::string::npos) << good;
  EXPECT_NE(good.find("would have found, in 80 of 100"), std::string::npos) << good;
}

TEST(CompareFormats, AnUnknownOneIsRefusedWithTheNamesOfAll) {
  const Error error = ErrorOf([] { (void)FindCompareFormat("csv"); });
  EXPECT_EQ(error.kind(), Error::Kind::kInvalidInput);
  EXPECT_NE(std::string(error.what()).find("table, markdown, json or junit"), std::string::npos);
}

// A kept file says of a run what its folder says.
TEST(CompareFormats, AKeptRunComparesAsItsFolderDoes) {
  const record::Run base = ToyRun("base");
  const record::Run kept = ReadKeptText(KeptText(base), "base");
  record::Run now = ToyRun("new");
  --OneHit(now).reuse_depth;
  for (Cell& cell : now.cells) {
    if (cell.hit()) *cell.restore_ms *= 1.3;
  }
  for (const CompareFormat& format : CompareFormats()) {
    EXPECT_EQ(Rendered(format.name, Compare(base, now, {})),
              Rendered(format.name, Compare(kept, now, {})));
    EXPECT_EQ(Rendered(format.name, Compare(base, base, {})),
              Rendered(format.name, Compare(base, kept, {})));
  }
}

}  // namespace
}  // namespace kvr::report
