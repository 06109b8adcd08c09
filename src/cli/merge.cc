#include "kvr/record/merge.h"

#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>

#include <iostream>

#include "commands.h"
#include "kvr/record/run_folder.h"

namespace kvr::cli {
namespace {

struct MergeOptions {
  std::vector<std::string> shards;
  std::string out;
  record::MergeOptions merge;
};

std::string Fact(const Json& environment, const char* field) {
  const Json value = environment.value(field, Json());
  if (value.is_null()) return "-";
  return value.is_string() ? value.get<std::string>() : DumpLine(value);
}

void Print(const record::Run& run) {
  std::vector<std::vector<std::string>> rows = {
      {"shard", "folder", "prompts", "cells", "host", "CPU", "started", "finished"}};
  for (const record::MergedShard& one : run.merged->shards) {
    rows.push_back(
        {fmt::format("{}/{}", one.shard.index, run.merged->count), Shortened(one.folder, 40),
         std::to_string(one.shard.prompts.size()), std::to_string(one.found_cells),
         Fact(one.environment, "host"),
         Fact(one.environment, "cpu_model") + ", " + Fact(one.environment, "instruction_set"),
         one.started.value_or("-"), one.finished.value_or("-")});
  }
  std::cout << AlignColumns(rows);
}

void Run(const MergeOptions& options) {
  std::vector<record::Run> shards;
  for (const std::string& folder : options.shards) shards.push_back(record::ReadRun(folder));
  const record::Run run = record::MergeShards(std::move(shards), options.merge);
  record::CheckFree(options.out);
  const record::RunFolder folder(options.out);
  record::CheckFree(options.out);  // once more, now that it is ours
  folder.Append(run.cells);
  folder.Write(run);  // last: what is broken off is no run
  for (const std::string& warning : run.warnings) spdlog::warn("{}", warning);
  for (const std::string& line : record::DescribeMerge(run)) spdlog::warn("{}", line);
  Print(run);
  std::cout << options.out << "\n";
}

}  // namespace

void AddMerge(CLI::App& app) {
  CLI::App* command = app.add_subcommand("merge", "Make one run of a sweep's shards");
  const auto options = std::make_shared<MergeOptions>();
  command->add_option("shards", options->shards, "Their run folders")->required();
  command->add_option("-o,--out", options->out, "The merged run's folder")->required();
  command->add_flag("--allow-holes", options->merge.allow_holes,
                    "Also when shards or cells are missing; the run is then unfinished");
  command->add_flag("--allow-mixed", options->merge.allow_mixed,
                    "Also when configs, prompts, archives or versions of the program differ");
  command->footer(
      "Examples:\n"
      "  kvr merge results/p/0 results/p/1 results/p/2 results/p/3 --out results/p/all\n"
      "  kvr report results/p/all");
  command->callback([options] { Run(*options); });
}

}  // namespace kvr::cli
