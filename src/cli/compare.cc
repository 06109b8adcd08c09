// kvr compare, baseline and check: a gate for changes.
#include "kvr/report/compare.h"

#include <spdlog/fmt/fmt.h>
#include <stdlib.h>

#include <cmath>
#include <filesystem>
#include <iostream>

#include "commands.h"
#include "kvr/base/error.h"
#include "kvr/base/file.h"
#include "kvr/base/progress.h"
#include "kvr/base/registry.h"
#include "kvr/experiment/prompts.h"
#include "kvr/experiment/sweep.h"
#include "kvr/record/kept_run.h"

namespace kvr::cli {

namespace {

namespace fs = std::filesystem;

// "5%", "5 %" or "0.05".
double ShareOf(const std::string& text) {
  const auto refuse = [&] {
    return InvalidInput(
        fmt::format("--threshold: found \"{}\", expected a share from 0 to below "
                    "100 %, such as 5% or 0.05",
                    Shortened(text, 40)));
  };
  std::size_t used = 0;
  double number = 0;
  try {
    number = std::stod(text, &used);
  } catch (const std::logic_error&) {
    throw refuse();
  }
  const std::string unit = text.substr(text.find_first_not_of(' ', used) == std::string::npos
                                           ? text.size()
                                           : text.find_first_not_of(' ', used));
  if (unit == "%") number /= 100;
  if ((unit != "%" && !unit.empty()) || !(number >= 0 && number < 1)) throw refuse();
  return number;
}

struct CompareFlags {
  std::string threshold = "5%", format = "table";
  report::CompareOptions options;

  void AddTo(CLI::App* command) {
    command->add_option("--threshold", threshold, "Slowdowns up to this share are let through")
        ->capture_default_str();
    command
        ->add_option(
            "--metric", options.metrics,
            fmt::format("Judge these times alone: {}", fmt::join(report::MetricNames(), ", ")))
        ->delimiter(',');
    command->add_option("-f,--format", format, AnyOf(report::CompareFormats()))
        ->capture_default_str();
    command->add_flag_callback(
        "--json", [this] { format = "json"; }, "Short for --format json");
    command->add_flag("--absolute", options.absolute,
                      "Judge times themselves as well; both runs must be of one machine and build");
  }
  // Before anything is run or read.
  void Check() {
    options.threshold = ShareOf(threshold);
    (void)report::FindCompareFormat(format);
  }
};

// Prints the comparison; throws kCheckFailed where NEW regressed.
void Show(const report::Comparison& comparison, const std::string& format) {
  std::cout << report::FindCompareFormat(format).render(comparison);
  if (!comparison.Regressed()) return;
  std::cout.flush();
  throw Error(Error::Kind::kCheckFailed,
              fmt::format("{} regressions in what must be equal, {} slower times",
                          comparison.ExactRegressions(), comparison.SlowerTimes()));
}

// A folder that is removed with its contents.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = (fs::temp_directory_path() / "kvr-check-XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr) throw IoError("cannot create " + pattern, errno);
    path_ = pattern;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  [[nodiscard]] const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

struct CheckOptions {
  std::string config, against, out;
  std::vector<std::string> settings;
  CompareFlags compare;
  bool exact_only = false;
};

void Check(CheckOptions& options) {
  options.compare.Check();
  options.compare.options.times = !options.exact_only;
  const record::Run base = record::ReadRunOrKept(options.against);
  const experiment::Config config = experiment::ReadConfig(options.config, options.settings);
  experiment::CheckArchives(config);
  record::Run planned;
  planned.label = options.config;
  planned.config = config.json;
  planned.prompts_sha256 = experiment::PromptsDigest(config);
  report::CheckSameConfig(base, planned);

  std::optional<TemporaryFolder> temporary;
  if (options.out.empty()) temporary.emplace();
  const fs::path folder = temporary ? temporary->path() / "run" : fs::path(options.out);
  {
    ProgressLine progress(ProgressLine::Elsewhere::kEveryTenSeconds);
    experiment::RunSweep(
        config, {.folder = folder,
                 .progress = [&](const std::string& what, std::int64_t done, std::int64_t total) {
                   progress.ShowCount(done, total, "cells", what);
                 }});
  }
  Show(report::Compare(base, record::ReadRun(folder), options.compare.options),
       options.compare.format);
}

void Keep(const std::string& run_folder, const std::string& out, bool force) {
  const record::Run run = record::ReadRun(run_folder);
  if (!run.finished || run.cells.empty()) {
    throw InvalidInput(run_folder + " is not finished: no baseline is made of a part of a run");
  }
  if (!force && fs::exists(fs::symlink_status(out))) {
    throw InvalidInput(out + " is there already; --force replaces it");
  }
  const std::string text = record::KeptText(run);
  (void)record::ReadKeptText(text, out);  // what can't be read back is not written
  WriteAndRename(out, text);
  const fs::path parent = fs::path(out).parent_path();
  SyncFolder(parent.empty() ? fs::path(".") : parent);
  std::cout << fmt::format("{}: {} cells, {}\n", out, run.cells.size(), HumanBytes(text.size()));
}

}  // namespace

void AddCompare(CLI::App& app) {
  struct Options {
    std::string base, now;
    CompareFlags compare;
    bool exact_only = false;
  };
  CLI::App* command = app.add_subcommand(
      "compare", "Compare two runs: what must be equal exactly, times by ratios within each run");
  const auto options = std::make_shared<Options>();
  command->add_option("base", options->base, "Run folder, or file of kvr baseline")->required();
  command->add_option("new", options->now, "The same, of what has changed since")->required();
  options->compare.AddTo(command);
  command->add_flag("--exact-only", options->exact_only, "Leave times out");
  command->add_flag("--fewer-cells", options->compare.options.fewer_cells,
                    "Let NEW lack cells of BASE, and leave those out");
  command->footer(
      "Examples:\n"
      "  kvr compare results/smoke/20260131T120000Z results/smoke/latest\n"
      "  kvr compare before.json results/smoke/latest --threshold 3% --metric ttft,restore\n"
      "  kvr compare before.json after.json --format junit > kvr.xml\n"
      "Exits with 0, with 1 where NEW is worse, with 2 where the runs can't be compared.");
  command->callback([options] {
    options->compare.Check();
    options->compare.options.times = !options->exact_only;
    Show(report::Compare(record::ReadRunOrKept(options->base), record::ReadRunOrKept(options->now),
                         options->compare.options),
         options->compare.format);
  });
}

void AddBaseline(CLI::App& app) {
  struct Options {
    std::string run, out;
    bool force = false;
  };
  CLI::App* command = app.add_subcommand(
      "baseline", "Keep what compare and check need of a run, in one small file");
  const auto options = std::make_shared<Options>();
  command->add_option("run", options->run, "Run folder")->required();
  command->add_option("-o,--out", options->out, "File to write")->required();
  command->add_flag("--force", options->force, "Replace a file that is there");
  command->footer(
      "Example:\n"
      "  kvr sweep configs/smoke.json && \\\n"
      "    kvr baseline results/smoke/latest --out configs/smoke.baseline.json");
  command->callback([options] { Keep(options->run, options->out, options->force); });
}

void AddCheck(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("check", "Run a config and compare it with a file of kvr baseline");
  const auto options = std::make_shared<CheckOptions>();
  command->add_option("config", options->config, "JSON file of a sweep")->required();
  command->add_option("--against", options->against, "File of kvr baseline, or run folder")
      ->required();
  command->add_option("-o,--out", options->out, "Run folder (default: none is left)");
  command->add_option("--set", options->settings, "Change a setting: key=value")
      ->take_all()
      ->allow_extra_args(false);
  options->compare.AddTo(command);
  command->add_flag("--exact-only", options->exact_only, "Leave times out");
  command->footer(
      "Examples:\n"
      "  kvr check configs/smoke.json --against configs/smoke.baseline.json --exact-only\n"
      "  kvr check my.json --against my.baseline.json --threshold 10% --format markdown\n"
      "Exits as kvr compare does.");
  command->callback([options] { Check(*options); });
}

}  // namespace kvr::cli
