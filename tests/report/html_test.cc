// The page: what it holds, and that no text of a run is more than a text in it.
#include "kvr/report/html.h"

#include <regex>

#include "../../src/report/figures/figures.h"
#include "../../src/report/html/markup.h"
#include "hostile.h"
#include "kvr/report/figures.h"
#include "report_fixture.h"

namespace kvr::report {
namespace {

class HtmlTest : public ReportTest {
 protected:
  std::string PageOf(const std::vector<Json>& cells, const Json& description = Description()) {
    const Run run = ReadRun(Write(cells, description));
    return RenderHtml({&run, 1});
  }
};

// Without the program's own style, script and licences, which no run changes.
std::string WithoutAssets(const std::string& page) {
  const std::size_t style = page.find("</style>"), footer = page.find("<footer>");
  EXPECT_NE(style, std::string::npos);
  EXPECT_NE(footer, std::string::npos);
  return page.substr(style, footer - style);
}

std::size_t CountOf(const std::string& text, const std::string& what) {
  std::size_t count = 0;
  for (std::size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) {
    ++count;
  }
  return count;
}

// Cells with a hostile text wherever a run has one.
std::vector<Json> HostileCells() {
  std::vector<Json> cells;
  for (const std::string& text : HostileTexts()) {
    const Json names = {{"workload", text}, {"text", text}, {"entry", text}};
    cells.push_back(Base(text.c_str(), 0, 100, names));
    cells.push_back(Recycled(text.c_str(), 0, 50, 60, names));
    cells.back().update({{"text", text + text}, {"tokens", {5, 6, 8}}});
    for (Json* cell : {&cells[cells.size() - 2], &cells.back()}) (*cell)["prompt_id"] = text;
  }
  return cells;
}

Json HostileDescription() {
  Json description = Description();
  description["name"] = HostileTexts()[0];
  description["config"]["note"] = HostileTexts();
  description["environment"]["host"] = HostileTexts()[0];
  description["environment"][HostileTexts()[1]] = HostileTexts()[2];
  return description;
}

TEST_F(HtmlTest, NoTextOfARunIsMarkup) {
  const std::string page = WithoutAssets(PageOf(HostileCells(), HostileDescription()));
  const std::string plain = WithoutAssets(
      PageOf({Base("t1", 0, 100), Recycled("t1", 0, 50, 60, {{"tokens", {5, 6, 8}}})}));
  // Only elements that a page without any such text has, and no attribute of theirs.
  const std::regex tag("<(/?[a-z0-9]+)([^<>]*)>");
  const auto tags = [&](const std::string& text) {
    std::set<std::string> found;
    for (std::sregex_iterator it(text.begin(), text.end(), tag), end; it != end; ++it) {
      found.insert((*it)[1].str());
    }
    return found;
  };
  std::set<std::string> allowed = tags(plain);
  allowed.insert({"mark", "/mark"});  // of texts that differ
  for (const std::string& name : tags(page)) EXPECT_TRUE(allowed.contains(name)) << name;
  EXPECT_EQ(CountOf(page, "<"), static_cast<std::size_t>(std::distance(
                                    std::sregex_iterator(page.begin(), page.end(), tag), {})))
      << "a \"<\" that begins no whole element";
  EXPECT_FALSE(std::regex_search(page, std::regex("<[^<>]*\\son[a-z]+\\s*=")));
  EXPECT_EQ(CountOf(page, "<script type=\"application/json\">"), CountOf(page, "</script>"));
  for (const char* bad : {"\x1b", "\a", "\x7f", "\xc2\x85", "\u2028", "\u202E", "\u200F", "\r"}) {
    EXPECT_EQ(page.find(bad), std::string::npos);
  }
  EXPECT_EQ(page.find('\0'), std::string::npos);
  EXPECT_NE(page.find("&lt;img src=x onerror=&quot;"), std::string::npos);
}

TEST_F(HtmlTest, ItsSpecificationsAreJsonThatNoTextLeaves) {
  const std::string page = PageOf(HostileCells(), HostileDescription());
  const std::string open = "<script type=\"application/json\">";
  std::size_t figures = 0;
  for (std::size_t at = page.find(open); at != std::string::npos; at = page.find(open, at + 1)) {
    const std::size_t begin = at + open.size(), end = page.find("</script>", begin);
    const std::string text = page.substr(begin, end - begin);
    EXPECT_EQ(text.find('<'), std::string::npos);
    EXPECT_TRUE(Json::parse(text).at("data").at("values").is_array());
    ++figures;
  }
  EXPECT_GE(figures, 5u);
}

TEST(JsonForScript, EscapesWhatAScriptElementOrJavaScriptWouldTakeForMore) {
  const Json json = {{"k<", "</script>\u2028\u2029\"\\ é"}};
  const std::string text = JsonForScript(json);
  EXPECT_EQ(text, "{\"k\\u003c\":\"\\u003c/script>\\u2028\\u2029\\\"\\\\ é\"}");
  EXPECT_EQ(Json::parse(text), json);
}

// FIPS 180-4's example, in base64.
TEST(PolicyHash, IsTheScriptsSha256) {
  EXPECT_EQ(PolicyHash("abc"), "sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=");
}

TEST_F(HtmlTest, RunsItsOwnScriptAloneAndLoadsNothing) {
  const std::string page = PageOf(Sample());
  const std::size_t begin = page.rfind("<script>") + 8, end = page.find("</script>", begin);
  EXPECT_NE(page.find("script-src '" + PolicyHash(page.substr(begin, end - begin)) + "'"),
            std::string::npos);
  EXPECT_NE(page.find("default-src 'none'"), std::string::npos);
  EXPECT_EQ(WithoutAssets(page).find("://"), page.find("://") == std::string::npos
                                                 ? std::string::npos
                                                 : WithoutAssets(page).find("://vega.github.io"))
      << "only the name of Vega-Lite's schema, which is not fetched";
  for (const char* loads : {"<link", "<iframe", " src=", "@import", "url("}) {
    EXPECT_EQ(WithoutAssets(page).find(loads), std::string::npos) << loads;
  }
}

// What is drawn is read without a script, too: each figure's numbers, all tables and texts.
TEST_F(HtmlTest, HoldsEveryNumberWithoutAScript) {
  const std::vector<Json> cells = Sample();
  const Run run = ReadRun(Write(cells));
  const std::string page = RenderHtml({&run, 1});
  for (const Table& table : BuildReport({&run, 1}).tables) {
    EXPECT_NE(page.find(HtmlText(table.title)), std::string::npos) << table.name;
    if (!table.rows.empty()) {
      EXPECT_NE(page.find(HtmlTable(table)), std::string::npos) << table.name;
    }
  }
  for (const Figure& figure : BuildFigures({&run, 1})) {
    const std::size_t at = page.find("<figure id=\"figure-" + figure.name + "\">");
    ASSERT_NE(at, std::string::npos);
    const std::string own = page.substr(at, page.find("</figure>", at) - at);
    EXPECT_EQ(CountOf(own, "<tr>"), 1 + figure.spec["data"]["values"].size()) << figure.name;
  }
  for (const std::string& claim : BuildReport({&run, 1}).claims) {
    EXPECT_NE(page.find("<li>" + HtmlText(claim) + "</li>"), std::string::npos) << claim;
  }
  EXPECT_NE(page.find("Testium 2"), std::string::npos);
}

TEST_F(HtmlTest, EqualOutputsStandOnceAndOthersSideBySide) {
  const auto page_of = [&](const Json& changes) {
    return WithoutAssets(PageOf({Base("t1", 0, 100), Recycled("t1", 0, 50, 60, changes)}));
  };
  const std::string equal = page_of(Json::object());
  EXPECT_EQ(CountOf(equal, "five six seven"), 1u);
  EXPECT_NE(equal.find("1 of 1 prompts: every recycled output equals"), std::string::npos);
  EXPECT_EQ(equal.find("<mark>"), std::string::npos);

  const std::string differing =
      page_of({{"tokens", {5, 6, 9}}, {"text", "five six séven"}, {"exact_claimed", false}});
  EXPECT_NE(differing.find("0 of 1 prompts: every recycled output equals"), std::string::npos);
  EXPECT_NE(differing.find("five six s<mark>even</mark>"), std::string::npos);
  EXPECT_NE(differing.find("five six s<mark>éven</mark>"), std::string::npos);
  EXPECT_NE(differing.find("They part at new token 2"), std::string::npos);

  const std::string other_tokens = page_of({{"tokens", {5, 6, 9}}});
  EXPECT_NE(other_tokens.find("in the same text"), std::string::npos);
  // An end where the other goes on is a difference, too.
  const std::string shorter =
      page_of({{"tokens", {5, 6}}, {"text", "five six"}, {"new_tokens", 2}});
  EXPECT_NE(shorter.find("five six<mark>[ends here]</mark>"), std::string::npos);
  EXPECT_NE(shorter.find("They part at new token 2"), std::string::npos);
}

TEST_F(HtmlTest, AnEmptyRunHasAPage) {
  const std::string page = PageOf({});
  EXPECT_NE(page.find("there are no cells"), std::string::npos);
  EXPECT_EQ(page.find("<figure id="), std::string::npos);
}

TEST_F(HtmlTest, AlarmsComeFirst) {
  const std::string page =
      PageOf({Base("t1", 0, 100), Recycled("t1", 0, 50, 60, WithFidelity({{"exact", false}}))});
  const std::size_t alarm = page.find("EXACTNESS VIOLATED");
  ASSERT_NE(alarm, std::string::npos);
  EXPECT_LT(alarm, page.find("class=\"claims\""));
}

}  // namespace
}  // namespace kvr::report
