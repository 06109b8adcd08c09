#include "kvr/report/report.h"

#include <spdlog/fmt/fmt.h>

#include <filesystem>
#include <fstream>
#include <iostream>

#include "commands.h"
#include "kvr/base/error.h"
#include "kvr/base/registry.h"
#include "kvr/record/run.h"
#include "kvr/report/figures.h"
#include "kvr/report/html.h"

namespace kvr::cli {

namespace {

namespace fs = std::filesystem;

struct ReportOptions {
  std::vector<std::string> runs;
  std::string format, table, html, figures;
  bool all = false;
};

// For people: readable by whom the umask lets.
void WriteOut(const fs::path& path, const std::string& contents) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << contents;
  file.close();
  if (!file) throw Error(Error::Kind::kIo, "cannot write " + path.string());
}

// The files' paths.
std::vector<std::string> WriteFigures(const fs::path& folder,
                                      const std::vector<report::Figure>& figures) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) {
    throw Error(Error::Kind::kIo, "cannot make " + folder.string() + ": " + error.message());
  }
  std::vector<std::string> paths;
  for (const report::Figure& figure : figures) {
    const fs::path path = folder / (figure.name + ".json");
    WriteOut(path, figure.spec.dump(2) + '\n');
    paths.push_back(path.string());
  }
  return paths;
}

void Run(const ReportOptions& options) {
  const report::Format& format =
      report::FindFormat(options.format.empty() ? "table" : options.format);
  std::vector<record::Run> runs;
  for (const std::string& folder : options.runs) runs.push_back(record::ReadRun(folder));
  if (!options.html.empty()) WriteOut(options.html, report::RenderHtml(runs));
  std::vector<std::string> figures;
  if (!options.figures.empty()) {
    figures = WriteFigures(options.figures, report::BuildFigures(runs));
  }
  const report::Report report = report::BuildReport(runs);
  if (!options.table.empty()) {
    std::cout << format.table(report::FindTable(report, options.table));
  } else if (options.all || !options.format.empty()) {
    std::cout << format.report(report);
  } else {
    std::cout << report::RenderScreen(report);
    if (!options.html.empty()) std::cout << "page: " << options.html << "\n";
    for (const std::string& path : figures) std::cout << "figure: " << path << "\n";
  }
  if (!report.alarms.empty()) {
    std::cout.flush();
    throw Error(Error::Kind::kCheckFailed, report.alarms.front());
  }
}

}  // namespace

void AddReport(CLI::App& app) {
  CLI::App* command = app.add_subcommand("report", "Make the paper's tables from run folders");
  const auto options = std::make_shared<ReportOptions>();
  command->add_option("runs", options->runs, "Run folders")->required();
  command->add_option("-f,--format", options->format, "Everything as " + AnyOf(report::Formats()));
  command->add_flag_callback(
      "--json", [options] { options->format = "json"; }, "Short for --format json");
  command->add_option("--table", options->table,
                      fmt::format("One table alone: {}", fmt::join(report::TableNames(), ", ")));
  command->add_flag("--all", options->all, "All tables in place of one screen");
  command->add_option("--html", options->html, "Write a page with figures to this file, too");
  command->add_option("--figures", options->figures,
                      "Write each figure's Vega-Lite specification into this folder, too");
  command->footer(
      "Examples:\n"
      "  kvr report results/paper/latest\n"
      "  kvr report results/paper/latest --html report.html\n"
      "  kvr report results/paper/latest --table paper\n"
      "  kvr report results/paper/latest --format markdown > table.md\n"
      "scripts/figures.py makes PDF, SVG and PNG of the figures.");
  command->callback([options] { Run(*options); });
}

}  // namespace kvr::cli
