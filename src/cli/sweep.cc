#include "kvr/experiment/sweep.h"

#include <unistd.h>

#include <iostream>

#include "commands.h"
#include "kvr/base/clock.h"
#include "kvr/base/error.h"
#include "kvr/base/file.h"

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

  void Show(const std::string& what, int done, int total) {
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
      const int filled = kWidth * done / total;
      line = "[" + std::string(static_cast<std::size_t>(filled), '#') +
             std::string(static_cast<std::size_t>(kWidth - filled), '.') + "] " + line;
    }
    line += ", " + Fixed(start_.ElapsedMs() / 1000, 0) + " s";
    // The rate since the first cell of this process: loading and filling come once.
    if (first_done_ > 0 && done > first_done_) {
      const double left = since_first_.ElapsedMs() / 1000 / (done - first_done_) * (total - done);
      line += ", " + Fixed(left, 0) + " s left";
    }
    line += " (" + what + ")";
    std::cerr << (terminal_ ? "\r\033[K" : "") << line << (terminal_ ? "" : "\n") << std::flush;
  }

 private:
  const bool terminal_ = ::isatty(STDERR_FILENO) == 1;
  bool shown_ = false;
  int first_done_ = -1;
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

fs::path RunFolder(const Options& options, const experiment::Config& config) {
  if (!options.out.empty()) return options.out;
  const fs::path base = fs::path("results") / config.name;
  if (options.resume) {
    if (!fs::exists(base / "latest")) {
      throw NotFound("no run to resume at " + (base / "latest").string());
    }
    return fs::canonical(base / "latest");
  }
  std::string time = UtcTimestamp(UnixSeconds());
  std::erase(time, ':');
  std::erase(time, '-');
  fs::path folder = base / time;
  for (int i = 2; fs::exists(folder); ++i) folder = base / (time + "-" + std::to_string(i));
  return folder;
}

void Run(const Options& options) {
  const experiment::Config config = experiment::ReadConfig(options.config, options.settings);
  experiment::CheckArchives(config);
  const int cells = experiment::CellsPerModel(config);
  if (options.dry_run) {
    std::cout << config.name << ": " << config.models.size() << " models, "
              << config.cache_prompts.size() << " prompts to cache, " << config.test_prompts.size()
              << " to test, " << config.reuses.size() << " ways of reuse, " << config.repetitions
              << " repetitions: " << cells * static_cast<int>(config.models.size())
              << " cells, up to " << config.max_new_tokens << " new tokens each\n";
    return;
  }
  const fs::path folder = RunFolder(options, config);
  CreateFolders(folder);
  if (options.out.empty() && !options.resume) PointLatest(folder);
  ProgressLine progress;
  std::string hint = "; go on with: kvr sweep " + options.config;
  for (const std::string& setting : options.settings) hint += " --set '" + setting + "'";
  hint +=
      std::string(options.keep_cache ? " --keep-cache" : "") + " --resume --out " + folder.string();
  try {
    experiment::RunSweep(config, {.folder = folder,
                                  .resume = options.resume,
                                  .keep_cache = options.keep_cache,
                                  .progress = [&](const std::string& what, int done, int total) {
                                    progress.Show(what, done, total);
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
