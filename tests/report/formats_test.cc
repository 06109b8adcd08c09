#include <sstream>

#include "report_fixture.h"

namespace kvr::report {
namespace {

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

// ---- Formats ----

Table AwkwardTable() {
  Table table{"t", "A & B", "50 % of_it", {}, {}};
  table.columns = {{"run", "run", false, true}, {"name", "name", false}, {"n", "n_x"}};
  table.rows = {{{"r", "r"}, {"café, \"x\" | 10%\nnext", "café, \"x\" | 10%\nnext"}, {"1.50", 1.5}},
                {{"r", "r"}, {"# [a] \\ <b>", "# [a] \\ <b>"}, {}},
                {{"r", "r"}, {"", ""}, {"10.25", 10.25}}};
  return table;
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
  for (const char* format : {"table", "markdown", "latex", "csv", "json"}) {
    texts.push_back(Render(report, format));
  }
  for (const std::string& text : texts) {
    for (const char* bad : {"\x1b", "\x07", "\x7f", "\xc2\x9b"}) {
      EXPECT_EQ(text.find(bad), std::string::npos) << text.substr(0, 200);
    }
  }
  EXPECT_EQ(Json::parse(texts.back())["tables"][0]["rows"][0]["prompt_id"], evil);
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
    EXPECT_LE(Longest(Render(table, "table"), &lines), 120u) << table.name;
  }
}

TEST_F(ReportTest, ATableIsFoundByItsNameOrAllAreNamed) {
  const Report report = ReportOf(Sample());
  EXPECT_EQ(FindTable(report, "paper").name, "paper");
  const Error error = ErrorOf([&] { (void)FindTable(report, "papers"); });
  EXPECT_EQ(error.kind(), Error::Kind::kInvalidInput);
  EXPECT_NE(std::string(error.what()).find("expected one of paper, prompts"), std::string::npos);
}

TEST(Render, TextLinesUpByCharacters) {
  EXPECT_EQ(Render(AwkwardTable(), "table"),
            "A & B\n"
            "=====\n"
            "name                    n_x\n"
            "café, \"x\" | 10% next   1.50\n"
            "# [a] \\ <b>               -\n"
            "                      10.25\n"
            "50 % of_it\n");
}

TEST(Render, MarkdownEscapesItsOwnCharacters) {
  EXPECT_EQ(Render(AwkwardTable(), "markdown"),
            "## A & B\n\n"
            "| name | n\\_x |\n"
            "| :--- | ---: |\n"
            "| café, \"x\" \\| 10% next | 1.50 |\n"
            "| \\# \\[a\\] \\\\ \\<b\\> | - |\n"
            "|  | 10.25 |\n"
            "\n50 % of\\_it\n");
}

TEST(Render, CsvQuotesAndLeavesMissingValuesEmpty) {
  EXPECT_EQ(Render(AwkwardTable(), "csv"),
            "run,name,n\n"
            "r,\"café, \"\"x\"\" | 10%\nnext\",1.5\n"
            "r,\"# [a] \\ <b>\",\n"
            "r,,10.25\n");
}

TEST(Render, LatexEscapesAndUsesBooktabs) {
  const std::string latex = Render(AwkwardTable(), "latex");
  EXPECT_NE(latex.find("\\begin{longtable}{lr}"), std::string::npos);
  EXPECT_NE(latex.find("\\toprule\n{}name & n\\_x \\\\\n\\midrule"), std::string::npos);
  EXPECT_NE(latex.find("{}café, \"x\" \\textbar{} 10\\% next & 1.50 \\\\\n"), std::string::npos);
  EXPECT_NE(latex.find("{}\\# [a] \\textbackslash{} \\textless{}b\\textgreater{} & - \\\\\n"),
            std::string::npos);
  EXPECT_NE(latex.find("\\paragraph{A \\& B}"), std::string::npos);
}

Table TableOfText(const std::string& text) {
  return {"t", "T", "", {{"name", "name", false}, {"n", "n"}}, {{{text, text}, {"-1.50", -1.5}}}};
}

TEST(Render, CsvTextsAreNoFormulasAndNumbersStay) {
  const auto csv = [](const char* text) { return Render(TableOfText(text), "csv"); };
  EXPECT_EQ(csv("=cmd|'/c calc'!A1"), "name,n\n'=cmd|'/c calc'!A1,-1.5\n");
  EXPECT_EQ(csv("+1"), "name,n\n'+1,-1.5\n");
  EXPECT_EQ(csv("-1"), "name,n\n'-1,-1.5\n");
  EXPECT_EQ(csv("@A1"), "name,n\n'@A1,-1.5\n");
  EXPECT_EQ(csv("a;=1,=2\n=3\"=4"), "name,n\n\"a;'=1,'=2\n'=3\"\"'=4\",-1.5\n");
  EXPECT_EQ(csv("a = b - c"), "name,n\na = b - c,-1.5\n");
}

TEST(Render, LatexHoldsNoCharacterThatPdfLatexMayNotKnow) {
  const auto latex = [](const std::string& text) { return Render(TableOfText(text), "latex"); };
  EXPECT_NE(latex("é 中 🙂 đ")
                .find("{}é \\kvrchar{4E2D}{中} \\kvrchar{1F642}{🙂} "
                      "\\kvrchar{0111}{đ} & -1.50"),
            std::string::npos);
  EXPECT_TRUE(latex("x").starts_with("\\providecommand{\\kvrchar}"));
  EXPECT_NE(latex("\\end{document}").find("{}\\textbackslash{}end\\{document\\} & "),
            std::string::npos);
  EXPECT_NE(latex(std::string(300, 'w')).find("{}" + std::string(29, 'w') + "\\ldots{} & "),
            std::string::npos);
}

TEST(Render, JsonKeepsFullNumbersAndNulls) {
  const Json json = Json::parse(Render(AwkwardTable(), "json"));
  EXPECT_EQ(json.at("rows")[0].at("n"), 1.5);
  EXPECT_TRUE(json.at("rows")[1].at("n").is_null());
  EXPECT_EQ(json.at("rows")[0].at("name"), "café, \"x\" | 10%\nnext");
}

TEST_F(ReportTest, EveryFormatHoldsEveryTable) {
  const Report report = ReportOf(Sample());
  const Json json = Json::parse(Render(report, "json"));
  EXPECT_EQ(json.at("schema"), kResultsSchema);
  ASSERT_EQ(json.at("tables").size(), report.tables.size());
  for (const Table& table : report.tables) {
    for (const char* format : {"table", "markdown", "latex", "csv"}) {
      EXPECT_NE(Render(report, format).find(table.title), std::string::npos) << table.name;
    }
    // The lines of a plain CSV of plain words all have as many commas as the head.
    std::istringstream lines(Render(table, "csv"));
    for (std::string line; std::getline(lines, line);) {
      EXPECT_EQ(std::count(line.begin(), line.end(), ',') + 1, std::ssize(table.columns)) << line;
    }
  }
  EXPECT_EQ(Render(report, "csv").find("nan"), std::string::npos);
}

TEST(FindFormat, KnowsFiveAndSaysSo) {
  EXPECT_EQ(FindFormat("table").name, std::string("table"));
  EXPECT_EQ(FindFormat("latex").name, std::string("latex"));
  const Error error = ErrorOf([] { (void)FindFormat("html"); });
  EXPECT_EQ(error.kind(), Error::Kind::kInvalidInput);
  EXPECT_NE(std::string(error.what()).find("html"), std::string::npos);
}

}  // namespace
}  // namespace kvr::report
