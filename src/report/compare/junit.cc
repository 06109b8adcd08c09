// JUnit's XML, as CI systems read it: a suite of exact cases, one for each prompt and way, and a
// suite of times.
#include <spdlog/fmt/fmt.h>

#include "../formats/layout.h"
#include "formats.h"

namespace kvr::report {
namespace {

struct Suite {
  const char* name;
  std::string cases;
  std::size_t tests = 0, failures = 0, skipped = 0;

  // `child`: what is inside the test's element.
  void Add(const std::string& where, const std::string& what, const std::string& child) {
    ++tests;
    cases += fmt::format("    <testcase classname=\"kvr.{}.{}\" name=\"{}\"", name,
                         Escaped(OneLine(where)), Escaped(OneLine(what)));
    cases += child.empty() ? "/>\n" : ">\n" + child + "    </testcase>\n";
  }
  [[nodiscard]] std::string Text() const {
    return fmt::format(
        "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"0\" skipped=\"{}\">\n{}"
        "  </testsuite>\n",
        name, tests, failures, skipped, cases);
  }
};

std::string Failure(const std::string& message) {
  return fmt::format("      <failure message=\"{}\"/>\n", Escaped(OneLine(message)));
}

Suite ExactSuite(const Comparison& comparison) {
  Suite suite{"exact"};
  std::vector<ExactCase> cases = comparison.cases;
  // What is said of a model as a whole is no cell's.
  for (const ExactChange& change : comparison.changes) {
    if (std::ranges::find(cases, change.of) == cases.end()) cases.push_back(change.of);
  }
  for (const ExactCase& one : cases) {
    std::string all;
    for (const ExactChange& change : comparison.changes) {
      if (change.regression && change.of == one) all += (all.empty() ? "" : "; ") + Said(change);
    }
    if (!all.empty()) ++suite.failures;
    suite.Add(fmt::format("{} ({})", one.model, one.precision),
              fmt::format("{}, {}", one.prompt, one.way), all.empty() ? "" : Failure(all));
  }
  return suite;
}

Suite TimeSuite(const Comparison& comparison) {
  Suite suite{"times"};
  for (const TimeRow& row : comparison.times) {
    std::string child;
    if (row.verdict == TimeVerdict::kSlower) {
      ++suite.failures;
      child = Failure(Said(row));
    } else if (row.verdict == TimeVerdict::kNotJudged) {
      ++suite.skipped;
      child = fmt::format("      <skipped message=\"{}\"/>\n", Escaped(OneLine(Said(row))));
    }
    suite.Add(fmt::format("{} ({})", row.model, row.precision),
              fmt::format("{}, {}, {}", row.way, row.metric, row.absolute ? "absolute" : "ratio"),
              child);
  }
  return suite;
}

std::string RenderJunit(const Comparison& comparison) {
  const Suite exact = ExactSuite(comparison), times = TimeSuite(comparison);
  std::string out = fmt::format(
      "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
      "<testsuites name=\"kvr compare\" tests=\"{}\" failures=\"{}\">\n",
      exact.tests + times.tests, exact.failures + times.failures);
  return out + exact.Text() + times.Text() + "</testsuites>\n";
}

}  // namespace

const CompareFormat kCompareJunit = {"junit", RenderJunit};

}  // namespace kvr::report
