// Figures: their numbers are the tables', and their specifications say where each stands.
#include "kvr/report/figures.h"

#include "../../src/report/figures/figure_of.h"
#include "../../src/report/figures/figures.h"
#include "hostile.h"
#include "report_fixture.h"

namespace kvr::report {
namespace {

class FigureTest : public ReportTest {
 protected:
  std::vector<Figure> FiguresOf(const std::vector<Json>& cells) {
    run_ = ReadRun(Write(cells));
    return BuildFigures({&run_, 1});
  }
  Report ReportOfRun() { return BuildReport({&run_, 1}); }

 private:
  record::Run run_;
};

const Figure* Find(const std::vector<Figure>& figures, const std::string& name) {
  for (const Figure& figure : figures) {
    if (figure.name == name) return &figure;
  }
  return nullptr;
}

// The row of a figure's data for which every wanted pair holds.
Json Drawn(const std::vector<Figure>& figures, const std::string& name, const Json& wanted) {
  const Figure* figure = Find(figures, name);
  if (figure == nullptr) return {};
  Json found;
  for (const Json& row : figure->spec["data"]["values"]) {
    bool all = true;
    for (const auto& [key, value] : wanted.items()) all = all && row.value(key, Json()) == value;
    if (!all) continue;
    EXPECT_TRUE(found.is_null()) << "two rows for " << wanted;
    found = row;
  }
  EXPECT_FALSE(found.is_null()) << name << " " << wanted;
  return found;
}

std::vector<Json> Turns() {
  std::vector<Json> cells;
  for (const char* rule : {"slide", "step"}) {
    for (int turn = 1; turn <= 3; ++turn) {
      for (int session = 0; session < 3; ++session) {
        const std::string id = std::string(rule) + std::to_string(session * 10 + turn);
        const Json where = {
            {"workload", rule}, {"turn", turn}, {"session", rule + std::to_string(session)}};
        cells.push_back(Base(id.c_str(), 0, 100 * turn + session, where));
        cells.push_back(Recycled(id.c_str(), 0, 50 + session, 20 * turn, where));
      }
    }
  }
  return cells;
}

TEST_F(FigureTest, NumbersAreTheTables) {
  const std::vector<Figure> figures = FiguresOf(Sample());
  const Report report = ReportOfRun();
  const Json way = {{"workload", "extends"}, {"policy", "embedding"}, {"match", "token"}};

  const Json speed = Row(report, "workloads", way);
  EXPECT_EQ(Drawn(figures, "workloads", {{"workload", "extends"}, {"way", "embedding/token"}})
                .at("ttft_speedup"),
            speed["ttft_speedup"]);

  const Json depth = Row(report, "depth", {{"policy", "embedding"}, {"depth", "1-63"}});
  const Json point = Drawn(figures, "depth", {{"way", "embedding"}, {"depth", "1-63"}});
  for (const char* key : {"ttft_speedup", "ttft_speedup_min", "ttft_speedup_max", "prompts"}) {
    EXPECT_EQ(point.at(key), depth[key]) << key;
  }
  EXPECT_FALSE(point.contains("ttft_speedup_low")) << "two prompts have no interval";

  const Json prompt = Row(report, "prompts", {{"prompt_id", "t1"}, {"policy", "embedding"}});
  EXPECT_EQ(Drawn(figures, "prompts", {{"prompt_id", "t1"}, {"way", "embedding/token"}})
                .at("ttft_speedup"),
            prompt["ttft_speedup"]);

  const Json phases = Row(report, "phases", way);
  const auto phase = [&](const char* name) {
    return Drawn(figures, "phases",
                 {{"workload", "extends"}, {"way", "embedding/token"}, {"phase", name}});
  };
  EXPECT_EQ(phase("embed").at("median_ms"), phases["embed_median_ms"]);
  EXPECT_EQ(phase("lookup").at("median_ms"), phases["lookup_median_ms"]);
  EXPECT_EQ(phase("recycled prefill").at("median_ms"), phases["prefill_median_ms"]);
  EXPECT_EQ(phase("embed").at("ttft_median_ms"), phases["ttft_median_ms"]);
  const Json spread =
      Drawn(figures, "distribution", {{"workload", "extends"}, {"way", "embedding/token"}});
  EXPECT_EQ(spread.at("median_ms"), phases["ttft_median_ms"]);
  EXPECT_FALSE(spread.contains("p95_ms")) << "too few cells for a percentile";
  EXPECT_TRUE(phases["ttft_p95_ms"].is_null());
  EXPECT_EQ(spread.at("greatest_ms"), 100);

  const Json found = Drawn(figures, "depth_found", {{"prompt_id", "t2"}});
  EXPECT_EQ(found.at("found"), 40);
  EXPECT_EQ(found.at("there"), 80);
}

TEST_F(FigureTest, TurnsAreDrawnForEachRuleAndArm) {
  const std::vector<Figure> figures = FiguresOf(Turns());
  const Json baseline =
      Drawn(figures, "turns", {{"workload", "slide"}, {"arm", "baseline"}, {"turn", 3}});
  EXPECT_EQ(baseline.at("ttft_median_ms"), 301);
  EXPECT_EQ(baseline.at("cells"), 3);
  const Json recycled =
      Drawn(figures, "turns", {{"workload", "step"}, {"arm", "recycled"}, {"turn", 2}});
  EXPECT_EQ(recycled.at("ttft_median_ms"), 51);
  EXPECT_EQ(recycled.at("depth_median"), 40);
  EXPECT_EQ(Find(figures, "turns")->spec["data"]["values"].size(), 12u);
}

TEST_F(FigureTest, FiguresWithoutDataAreLeftOut) {
  EXPECT_EQ(Find(FiguresOf(Sample()), "turns"), nullptr);
  EXPECT_TRUE(FiguresOf({}).empty());
  const std::vector<Figure> baselines = FiguresOf({Base("t1", 0, 100)});
  EXPECT_EQ(Find(baselines, "depth"), nullptr);
  EXPECT_NE(Find(baselines, "phases"), nullptr);
}

// One run that has something for every figure.
Run RunOfEverything(Run run) {
  run.config["workload"] = "context";
  for (Cell& cell : run.cells) {
    if (cell.turn) cell.history_tokens = 100 * *cell.turn;
  }
  const std::vector<Cell> cells = run.cells;
  for (int repetition = 1; repetition < 21; ++repetition) {
    for (Cell cell : cells) {
      cell.repetition = repetition;
      run.cells.push_back(std::move(cell));
    }
  }
  run.trace.push_back({.trace = "t",
                       .rule = "lru",
                       .budget_blocks = 2,
                       .budget_bytes = 2048,
                       .block_tokens = 512,
                       .end_s = 10,
                       .requests = 2,
                       .input_tokens = 1000,
                       .hit_tokens = 100});
  run.lookups.push_back({.model = "tiny",
                         .precision = "fp32",
                         .workload = "extends",
                         .prompt_id = "q",
                         .policy = "embedding",
                         .match = "token",
                         .candidates = 1,
                         .distractors = 100,
                         .entries = 110,
                         .prompt_tokens = 40,
                         .pieces = 40,
                         .pieces_embedded = 40,
                         .available_depth = 30,
                         .reuse_depth = 20,
                         .embed_ms = 4,
                         .lookup_ms = 1});
  return run;
}

TEST_F(FigureTest, EveryFigureSaysWhatItShowsAndHasAllItsFields) {
  std::vector<Json> cells = Sample();
  for (const Json& cell : Turns()) cells.push_back(cell);
  const Run run = RunOfEverything(ReadRun(Write(cells)));
  const std::vector<Figure> figures = BuildFigures({&run, 1});
  for (const FigureKind& kind : kFigures) EXPECT_NE(Find(figures, kind.name), nullptr) << kind.name;
  for (const Figure& figure : figures) {
    EXPECT_FALSE(figure.spec.at("title").get<std::string>().empty());
    EXPECT_GT(figure.spec.at("description").get<std::string>().size(), 40u) << figure.name;
    std::set<std::string> keys = {"row", "line"};  // made by the figures themselves
    for (const Json& row : figure.spec["data"]["values"]) {
      for (const auto& [key, value] : row.items()) keys.insert(key);
    }
    for (const Json& column : figure.spec["usermeta"]["columns"]) {
      keys.insert(column.get<std::string>());
    }
    const Json flat = figure.spec.flatten();
    for (const auto& [path, value] : flat.items()) {
      if (path.ends_with("/as")) keys.insert(value.get<std::string>());  // calculated
    }
    for (const auto& [path, value] : flat.items()) {
      if (!path.ends_with("/field") || path.starts_with("/data")) continue;
      EXPECT_TRUE(keys.contains(value.get<std::string>())) << figure.name << path << value;
    }
    EXPECT_EQ(figure.spec.dump().find("\"ARM\""), std::string::npos) << figure.name;
    EXPECT_EQ(figure.spec.dump().find("\"RATIOS\""), std::string::npos) << figure.name;
    EXPECT_EQ(figure.spec.dump().find("\"WORKLOADS\""), std::string::npos) << figure.name;
  }
}

TEST_F(FigureTest, SeveralModelsHaveAFigureEach) {
  std::vector<Json> cells = Sample();
  for (const Json& cell : Sample()) {
    cells.push_back(cell);
    cells.back()["precision"] = "int8";
  }
  const std::vector<Figure> figures = FiguresOf(cells);
  ASSERT_NE(Find(figures, "depth"), nullptr);
  ASSERT_NE(Find(figures, "depth-2"), nullptr);
  EXPECT_NE(
      Find(figures, "depth-2")->spec.at("title").at("subtitle").get<std::string>().find("int8"),
      std::string::npos);
}

// XML, and with it SVG, has no place for control characters.
TEST_F(FigureTest, TextsAreLinesWithoutControlCharacters) {
  std::vector<Json> cells;
  for (const std::string& text : HostileTexts()) {
    for (Json cell : {Base("t", 0, 100), Recycled("t", 0, 50, 60, {{"available_depth", 70}})}) {
      cell.update({{"prompt_id", text}, {"workload", text}});
      cells.push_back(cell);
    }
  }
  for (const Figure& figure : FiguresOf(cells)) {
    const std::string dumped = figure.spec.dump();
    for (const char* bad : {"\\u00", "\\n", "\\r", "\\t", "\x7f", "\xc2\x85", "\u2028", "\u202E",
                            "\u200F", "\u061C", "\uFFFE", "\uFFFF"}) {
      EXPECT_EQ(dumped.find(bad), std::string::npos) << figure.name << " " << bad;
    }
  }
}

std::optional<Json> TokensFigure(const Scope& scope) {
  FigureData data({"prompt_id", "tokens"});
  for (const PromptCells& prompt : scope.prompts) {
    data.Add({{"prompt_id", prompt.id}, {"tokens", prompt.tokens}});
  }
  return Specification({"Tokens", "Of each prompt."}, data,
                       R"({"mark": "bar", "encoding": {"x": {"field": "tokens"}}})");
}

TEST_F(FigureTest, AddingOneFigureIsOneFunctionAndOneLine) {
  std::vector<FigureKind> kinds(kFigures.begin(), kFigures.end());
  kinds.push_back({"tokens", TokensFigure});
  const Run run = ReadRun(Write(Sample()));
  const std::vector<Figure> figures = BuildFigures(ScopesOf({&run, 1}), kinds);
  EXPECT_EQ(figures.back().name, "tokens");
  EXPECT_EQ(Drawn(figures, "tokens", {{"prompt_id", "t1"}}).at("tokens"), 100);
}

}  // namespace
}  // namespace kvr::report
