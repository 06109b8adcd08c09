#include "kvr/experiment/sweep.h"

#include <unistd.h>

#include <iostream>

#include "commands.h"
#include "kvr/base/clock.h"
#include "kvr/base/error.h"
#include "kvr/base/file.h"
#include "kvr/experiment/prompts.h"
#include "kvr/experiment/schedule.h"
#include "kvr/record/run_folder.h"

namespace kvr::cli {

namespace {

namespace fs = std::filesystem;

struct Options {
  std::string config;
  std::string out;
  std::vector<std::string> settings;
  bool dry_run = false;
  bool resume = false;
  bool keep_cache = false;
};

// A bar on a terminal, a line every ten seconds otherwise. Standard error.
class ProgressLine {
 public:
  ~ProgressLine() {
    if (terminal_ && shown_) std::cerr << "\r\033[K" << std::flush;
  }

  void Show(const std::string& what, std::int64_t done, std::int64_t total) {
    if (first_done_ < 0 && done > 0) {
      first_done_ = done;
      since_first_ = Stopwatch();
    }
    if (!terminal_ && shown_ && last_.ElapsedMs() < 10000) return;
    last_ = Stopwatch();
    shown_ = true;
    std::string line = std::to_string(done) + "/" + std::to_string(total) + " cells";
    if (terminal_ && total > 0) {
      constexpr int kWidth = 28;
      const std::int64_t filled = kWidth * done / total;
      line = "[" + std::string(static_cast<std::size_t>(filled), '#') +
             std::string(static_cast<std::size_t>(kWidth - filled), '.') + "] " + line;
    }
    line += ", " + Fixed(start_.ElapsedMs() / 1000, 0) + " s";
    // The rate since the first cell of this process: loading and filling come once.
    if (first_done_ > 0 && done > first_done_) {
      const double each = since_first_.ElapsedMs() / 1000 / static_cast<double>(done - first_done_);
      const double left = each * static_cast<double>(total - done);
      line += ", " + Fixed(left, 0) + " s left";
    }
    line += " (" + what + ")";
    std::cerr << (terminal_ ? "\r\033[K" : "") << line << (terminal_ ? "" : "\n") << std::flush;
  }

 private:
  const bool terminal_ = ::isatty(STDERR_FILENO) == 1;
  bool shown_ = false;
  std::int64_t first_done_ = -1;
  Stopwatch start_, last_, since_first_;
};

// results/<name>/latest -> the run folder, replaced in one step.
void PointLatest(const fs::path& folder) {
  const fs::path link = folder.parent_path() / "latest";
  const fs::path temporary = folder.parent_path() / (".latest-" + std::to_string(::getpid()));
  std::error_code error;
  fs::remove(temporary, error);
  fs::create_symlink(folder.filename(), temporary, error);
  if (!error) fs::rename(temporary, link, error);
  if (error) {
    throw Error(Error::Kind::kIo, "cannot point " + link.string() + " at " +
                                      folder.filename().string() + ": " + error.message());
  }
}

// Where the config's runs are.
fs::path RunsFolder(const experiment::Config& config) { return fs::path("results") / config.name; }

fs::path ChooseFolder(const Options& options, const experiment::Config& config) {
  if (!options.out.empty()) return options.out;
  const fs::path base = RunsFolder(config);
  if (options.resume) {
    if (!fs::exists(base / "latest")) {
      throw NotFound("no run to resume at " + (base / "latest").string());
    }
    return fs::canonical(base / "latest");
  }
  std::string time = UtcTimestamp(UnixSeconds());
  std::erase(time, ':');
  std::erase(time, '-');
  return record::MakeNewFolder(base, time);
}

void Run(const Options& options) {
  const experiment::Config config = experiment::ReadConfig(options.config, options.settings);
  experiment::CheckArchives(config);
  if (options.dry_run) {
    if (!options.out.empty() && !options.resume) record::CheckFree(options.out);
    const std::int64_t cells =
        experiment::CellsPerModel(config) * static_cast<std::int64_t>(config.models.size());
    std::cout << config.name << ": " << config.models.size() << " models, "
              << config.cache_prompts.size() << " prompts to cache, " << config.test_prompts.size()
              << " to test, " << config.reuses.size() << " ways of reuse, " << config.repetitions
              << " repetitions: " << cells << " cells, up to " << config.marks.back()
              << " new tokens each\n";
    return;
  }
  const fs::path folder = ChooseFolder(options, config);
  ProgressLine progress;
  std::string hint = "; go on with: kvr sweep " + options.config;
  for (const std::string& setting : options.settings) hint += " --set '" + setting + "'";
  hint +=
      std::string(options.keep_cache ? " --keep-cache" : "") + " --resume --out " + folder.string();
  try {
    experiment::RunSweep(config,
                         {.folder = folder,
                          .resume = options.resume,
                          .keep_cache = options.keep_cache,
                          .progress = [&](const std::string& what, std::int64_t done,
                                          std::int64_t total) { progress.Show(what, done, total); },
                          .first_cell =
                              [&] {
                                if (options.out.empty()) PointLatest(folder);
                              }});
  } catch (const Error& error) {
    if (error.kind() == Error::Kind::kInterrupted) throw Error(error.kind(), "interrupted" + hint);
    if (error.kind() == Error::Kind::kIo || error.kind() == Error::Kind::kResource) {
      throw Error(error.kind(), error.what() + hint);
    }
    throw;
  }
  std::cout << folder.string() << "\n";
}

}  // namespace

void AddSweep(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("sweep", "Run a config: both arms, every prompt, every repetition");
  const auto options = std::make_shared<Options>();
  command->add_option("config", options->config, "JSON file; comments allowed")->required();
  command->add_option("-o,--out", options->out,
                      "Run folder (default: results/<config name>/<time>)");
  command->add_option("--set", options->settings, "Change a setting: key=value")
      ->take_all()
      ->allow_extra_args(false);
  command->add_flag("--dry-run", options->dry_run, "Check everything, count the cells, run none");
  command->add_flag("--resume", options->resume, "Go on with a run that was interrupted");
  command->add_flag("--keep-cache", options->keep_cache, "Leave the filled cache in the folder");
  command->footer(
      "Examples:\n"
      "  kvr sweep configs/paper.json\n"
      "  kvr sweep configs/paper.json --set repetitions=5 --set 'match=[\"whole\",\"token\"]'\n"
      "  kvr sweep configs/paper.json --resume\n"
      "Prints the run folder. Ctrl-C leaves one that can be resumed.");
  command->callback([options] { Run(*options); });
}

}  // namespace kvr::cli
