#include "kvr/report/report.h"

#include <spdlog/fmt/fmt.h>

#include <iostream>

#include "commands.h"
#include "kvr/base/error.h"
#include "kvr/base/registry.h"
#include "kvr/record/run.h"

namespace kvr::cli {

void AddReport(CLI::App& app) {
  struct Options {
    std::vector<std::string> runs;
    std::string format, table;
    bool all = false;
  };
  CLI::App* command = app.add_subcommand("report", "Make the paper's tables from run folders");
  const auto options = std::make_shared<Options>();
  command->add_option("runs", options->runs, "Run folders")->required();
  command->add_option("-f,--format", options->format, "Everything as " + AnyOf(report::Formats()));
  command->add_flag_callback(
      "--json", [options] { options->format = "json"; }, "Short for --format json");
  command->add_option("--table", options->table,
                      fmt::format("One table alone: {}", fmt::join(report::TableNames(), ", ")));
  command->add_flag("--all", options->all, "All tables in place of one screen");
  command->footer(
      "Examples:\n"
      "  kvr report results/paper/latest\n"
      "  kvr report results/paper/latest --table paper\n"
      "  kvr report results/paper/latest --format markdown > table.md");
  command->callback([options] {
    const report::Format& format =
        report::FindFormat(options->format.empty() ? "table" : options->format);
    std::vector<record::Run> runs;
    for (const std::string& folder : options->runs) runs.push_back(record::ReadRun(folder));
    const report::Report report = report::BuildReport(runs);
    if (!options->table.empty()) {
      std::cout << format.table(report::FindTable(report, options->table));
    } else if (options->all || !options->format.empty()) {
      std::cout << format.report(report);
    } else {
      std::cout << report::RenderScreen(report);
    }
    if (!report.alarms.empty()) {
      std::cout.flush();
      throw Error(Error::Kind::kCheckFailed, report.alarms.front());
    }
  });
}

}  // namespace kvr::cli
