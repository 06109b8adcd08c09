#include "kvr/experiment/trace.h"

#include <spdlog/fmt/fmt.h>

#include <iostream>

#include "commands.h"
#include "kvr/base/registry.h"
#include "kvr/experiment/trace_workload.h"
#include "kvr/report/report.h"

namespace kvr::cli {

namespace {

struct TraceOptions {
  std::string file;
  std::vector<std::string> budgets = {"1%", "3%", "10%", "30%"};
  int bins = 12;
  std::int64_t bytes_per_token = 0;
  std::string model;
  std::string codec = cache::ToString(cache::Codec::kFp32);
  bool over_time = false;
  std::string format = "table";
};

void Run(const TraceOptions& options) {
  const report::Format& format = report::FindFormat(options.format);
  experiment::TraceArithmetic arithmetic{.bins = options.bins};
  for (const std::string& budget : options.budgets) {
    arithmetic.budgets.push_back(experiment::ParseBudget(budget, "--budget"));
  }
  if (options.bytes_per_token > 0) {
    arithmetic.bytes_per_token = static_cast<std::uint64_t>(options.bytes_per_token);
  }
  std::optional<model::ArchiveInfo> info;
  if (!options.model.empty()) {
    info = model::ReadArchiveInfo(options.model);
    arithmetic.bytes_per_token =
        experiment::StoredBytesPerToken(*info, cache::CodecFromString(options.codec));
  }
  std::vector<record::TraceRow> rows =
      experiment::CountTrace(experiment::ReadTrace(options.file), arithmetic);
  for (record::TraceRow& row : rows) {
    if (!info) continue;
    row.model = info->name;
    row.precision = info->precision;
    row.codec = options.codec;
  }
  report::Report all;
  all.tables = report::TraceTables(std::move(rows));
  std::cout << format.table(report::FindTable(all, options.over_time ? "trace_bins" : "trace"));
}

}  // namespace

void AddTrace(CLI::App& app) {
  CLI::App* command = app.add_subcommand(
      "trace", "What a cache would save of a trace of requests: arithmetic, without any model");
  const auto options = std::make_shared<TraceOptions>();
  command
      ->add_option("file", options->file,
                   "Mooncake's format: lines of timestamp, input_length, output_length, hash_ids")
      ->required();
  command
      ->add_option("--budget", options->budgets,
                   "What the cache may hold: a number and B, kB, MB, GB, TB, KiB, MiB, GiB, TiB\n"
                   "(with --bytes-per-token or --model), tokens, blocks, or % of the trace's "
                   "different blocks")
      ->take_all()
      ->allow_extra_args(false)
      ->capture_default_str();
  CLI::Option* const bytes =
      command
          ->add_option("--bytes-per-token", options->bytes_per_token,
                       "Keys and values of one token")
          ->check(CLI::Range(std::int64_t{1}, experiment::kMostBytesPerToken));
  CLI::Option* const model = command
                                 ->add_option("-m,--model", options->model,
                                              "Instead, those of this language model's archive")
                                 ->excludes(bytes);
  command->add_option("--codec", options->codec, "And how the cache holds them")
      ->capture_default_str()
      ->check(CLI::IsMember(cache::CodecNames()))
      ->needs(model);
  command->add_flag("--over-time", options->over_time, "A row for each bin of the trace's time");
  command->add_option("--bins", options->bins, "Of equal length, for --over-time")
      ->capture_default_str()
      ->check(CLI::Range(1, experiment::kMostBins));
  command->add_option("-f,--format", options->format, "As " + AnyOf(report::Formats()))
      ->capture_default_str();
  command->add_flag_callback(
      "--json", [options] { options->format = "json"; }, "Short for --format json");
  command->footer(
      "Examples:\n"
      "  kvr trace conversation_trace.jsonl\n"
      "  kvr trace conversation_trace.jsonl --budget 100GiB --budget 1TiB --model "
      "models/smollm2.pt\n"
      "  kvr trace conversation_trace.jsonl --budget 10% --over-time --bins 24 --format csv");
  command->callback([options] { Run(*options); });
}

}  // namespace kvr::cli
