#include "kvr/experiment/sweep.h"

#include <spdlog/fmt/fmt.h>
#include <unistd.h>

#include <cstdlib>
#include <iostream>

#include "commands.h"
#include "kvr/base/clock.h"
#include "kvr/base/error.h"
#include "kvr/base/file.h"
#include "kvr/base/progress.h"
#include "kvr/experiment/prompts.h"
#include "kvr/experiment/retrieval.h"
#include "kvr/record/run_folder.h"
#include "manifest.h"

namespace kvr::cli {

namespace {

namespace fs = std::filesystem;

struct SweepOptions {
  std::string config;
  std::string out;
  std::vector<std::string> settings;
  bool dry_run = false;
  bool resume = false;
  bool keep_cache = false;
  std::string shard, baseline;
  ManifestOptions manifest;
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

fs::path ChooseFolder(const SweepOptions& options, const experiment::Config& config) {
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

// What a study of look-ups makes.
void PrintLookups(const experiment::Config& config, std::int64_t lookups) {
  std::cout << config.name << ": " << config.models.size() << " models, "
            << config.retrieval->distractors.back() << " distractors at most, "
            << config.reuses.size() << " ways of reuse, " << config.repetitions
            << " repetitions: " << lookups << " look-ups\n";
}

void Run(const SweepOptions& options) {
  const experiment::Config config = experiment::ReadConfig(options.config, options.settings);
  std::optional<experiment::Shard> shard;
  if (!options.shard.empty()) {
    shard = experiment::ParseShard(options.shard, [](const char* name) { return ::getenv(name); });
  }
  std::optional<experiment::BaselineChoice> baseline;
  if (!options.baseline.empty()) baseline = experiment::ParseBaseline(options.baseline);
  if (config.retrieval && (shard || baseline)) {
    throw InvalidInput("workload retrieval has no cells: --shard and --baseline are not for it");
  }
  experiment::CheckArchives(config);
  const std::int64_t lookups = config.retrieval ? experiment::CheckRetrieval(config) : 0;
  if (options.dry_run) {
    if (!options.out.empty() && !options.resume) record::CheckFree(options.out);
    if (config.retrieval) {
      PrintLookups(config, lookups);
    } else {
      PrintManifest(config, shard.value_or(experiment::Shard()).count, options.manifest);
    }
    return;
  }
  const fs::path folder = ChooseFolder(options, config);
  ProgressLine progress(ProgressLine::Elsewhere::kEveryTenSeconds);
  std::string hint = "; go on with: kvr sweep " + options.config;
  for (const std::string& setting : options.settings) hint += " --set '" + setting + "'";
  if (shard) hint += fmt::format(" --shard {}/{}", shard->index, shard->count);
  if (baseline) hint += " --baseline " + options.baseline;
  hint +=
      std::string(options.keep_cache ? " --keep-cache" : "") + " --resume --out " + folder.string();
  try {
    const char* const steps = config.retrieval ? "steps" : "cells";
    const experiment::SweepOptions sweep = {
        .folder = folder,
        .resume = options.resume,
        .keep_cache = options.keep_cache,
        .shard = shard,
        .baseline = baseline,
        .progress = [&](const std::string& what, std::int64_t done,
                        std::int64_t total) { progress.ShowCount(done, total, steps, what); },
        .first_cell =
            [&] {
              if (options.out.empty()) PointLatest(folder);
            }};
    if (config.retrieval) {
      experiment::RunRetrieval(config, sweep);
    } else {
      experiment::RunSweep(config, sweep);
    }
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
  const auto options = std::make_shared<SweepOptions>();
  command->add_option("config", options->config, "JSON file; comments allowed")->required();
  command->add_option("-o,--out", options->out,
                      "Run folder (default: results/<config name>/<time>)");
  command->add_option("--set", options->settings, "Change a setting: key=value")
      ->take_all()
      ->allow_extra_args(false);
  command->add_option("--shard", options->shard,
                      "Only this part of the cells: i/N with i from 0; auto, auto/N: as a Slurm "
                      "array or an indexed Kubernetes job says");
  command->add_option("--baseline", options->baseline,
                      "block, or free:TOKENS (default: what a calibration chooses; in a shard: "
                      "block)");
  CLI::Option* const dry_run = command->add_flag(
      "--dry-run", options->dry_run, "Check everything, show cells, tokens and time, run none");
  command
      ->add_flag("--no-estimate", options->manifest.no_estimate,
                 "With --dry-run: load no model and time nothing")
      ->needs(dry_run);
  command->add_flag("--json", options->manifest.json, "With --dry-run: as JSON")->needs(dry_run);
  command->add_flag("--resume", options->resume, "Go on with a run that was interrupted");
  command->add_flag("--keep-cache", options->keep_cache, "Leave the filled cache in the folder");
  command->footer(
      "Examples:\n"
      "  kvr sweep configs/paper.json\n"
      "  kvr sweep configs/paper.json --set repetitions=5 --set 'match=[\"whole\",\"token\"]'\n"
      "  kvr sweep configs/paper.json --resume\n"
      "  kvr sweep configs/paper.json --shard 0/4 --out results/p/0   # docs/scaling-out.md\n"
      "  kvr sweep configs/paper.json --shard 0/4 --dry-run\n"
      "Prints the run folder. Ctrl-C leaves one that can be resumed.");
  command->callback([options] { Run(*options); });
}

}  // namespace kvr::cli
