#include "kvr/experiment/bench.h"

#include <unistd.h>

#include <algorithm>
#include <iostream>
#include <optional>

#include "commands.h"
#include "kvr/base/clock.h"
#include "kvr/base/error.h"
#include "kvr/base/file.h"
#include "kvr/base/interrupt.h"
#include "kvr/base/progress.h"
#include "kvr/experiment/bench_busy.h"
#include "kvr/experiment/bench_cases.h"

namespace kvr::cli {

namespace {

namespace fs = std::filesystem;

struct Options {
  ModelOptions model;
  int repetitions = 5;
  std::string cases;
  std::vector<int> busy;
  bool json = false;
};

// A folder below the cache folder, so that what is measured is the disk that caches are on.
class ScratchFolder {
 public:
  explicit ScratchFolder(const fs::path& parent)
      : path_(parent / (".bench-" + std::to_string(::getpid()))) {}
  ~ScratchFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  [[nodiscard]] const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

// The least and the greatest of some numbers.
std::string Range(const Json& numbers) {
  const auto [least, greatest] = std::minmax_element(numbers.begin(), numbers.end());
  return Fixed(*least, 1) + " to " + Fixed(*greatest, 1);
}

// Model and machine: what every table of this command begins with.
std::string Heading(const Json& result) {
  const Json &model = result["model"], &environment = result["environment"];
  return model["name"].get<std::string>() + ", " + model["precision"].get<std::string>() + ", " +
         environment["cpu_model"].get<std::string>() + ", " +
         environment["instruction_set"].get<std::string>() + ", " + environment["threads"].dump() +
         " threads";
}

void Print(const Json& result) {
  const Json& limits = result["limits"];
  std::cout << Heading(result) << "; medians of " << result["repetitions"] << "\n"
            << "limits: read " << Range(limits["read_gb_per_s"]) << " GB/s, copy "
            << Range(limits["copy_gb_per_s"])
            << " GB/s (read + write), measured beside the phases that they bound;\n"
            << "        GEMM GFLOP/s by rows:";
  for (const int rows : {4, 16, 32, 64, 128, 256, 512}) {
    std::cout << " " << rows << ": "
              << Fixed(limits["gemm_gflop_per_s_by_rows"][std::to_string(rows)], 0);
  }
  std::cout << "\n\n";
  std::vector<std::vector<std::string>> rows = {
      {"phase", "what", "measured", "bound", "unit", "of bound"}};
  for (const Json& row : result["rows"]) {
    const auto number = [](const Json& value) {
      return value.is_null() ? std::string("-")
                             : Fixed(value.get<double>(), value.get<double>() < 10 ? 3 : 1);
    };
    rows.push_back({row["phase"], row["what"], number(row["measured"]), number(row["bound"]),
                    row["unit"], row["ratio"].is_null() ? "-" : Fixed(row["ratio"], 2)});
  }
  std::cout << AlignColumns(rows) << "of bound: 1.00 is the bound itself.\n";
}

void PrintBusy(const Json& result) {
  std::cout << Heading(result) << " on " << result["cores"] << " cores; medians of "
            << result["repetitions"] << "\n\n";
  std::vector<std::vector<std::string>> rows = {
      {"phase", "what", "beside", "quiet", "measured", "unit", "share", "fair", "of fair"}};
  for (const Json& row : result["rows"]) {
    const auto number = [](double value) { return Fixed(value, value < 10 ? 2 : 1); };
    const double share = row["share"], fair = row["fair_share"];
    rows.push_back({row["phase"], row["what"], row["loops"].dump(), number(row["quiet"]),
                    number(row["measured"]), row["unit"], Fixed(share, 2), Fixed(fair, 2),
                    Fixed(share / fair, 2)});
  }
  std::cout
      << AlignColumns(rows)
      << "beside: processes that do nothing but compute. share: of the quiet speed. fair: the\n"
         "share when the system gives each process' threads and each loop the same.\n";
}

void Run(const Options& options) {
  if (!options.cases.empty() && !options.json) {
    throw InvalidInput("--cases: its results are JSON only; add --json");
  }
  const ScratchFolder scratch(options.model.cache_dir);  // outlives the store in it
  engine::Generator generator = options.model.Load(/*needs_encoder=*/true);
  std::optional<ProgressLine> line(ProgressLine::Elsewhere::kAll);
  const auto progress = [&](const std::string& what) {
    ThrowIfInterrupted();
    line->Show("measuring: " + what);
  };
  Json result;
  if (!options.busy.empty()) {
    result = experiment::RunBenchBusy(generator, {.loops = options.busy,
                                                  .scratch = scratch.path(),
                                                  .repetitions = options.repetitions,
                                                  .progress = progress});
  } else if (options.cases.empty()) {
    result = experiment::RunBench(
        generator,
        {.scratch = scratch.path(), .repetitions = options.repetitions, .progress = progress});
  } else {
    const bool from_stdin = options.cases == "-";
    const std::string where = from_stdin ? "standard input" : options.cases;
    const Json json = ParseJson(from_stdin ? ReadStdin() : ReadFile(options.cases), where);
    result = experiment::RunBenchCases(
        generator, experiment::ReadBenchCases(json, generator.info().vocab, where),
        {.scratch = scratch.path(), .repetitions = options.repetitions, .progress = progress});
  }
  line.reset();
  if (options.json) {
    std::cout << result.dump(2) << "\n";
  } else if (!options.busy.empty()) {
    PrintBusy(result);
  } else {
    Print(result);
  }
}

}  // namespace

void AddBench(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("bench", "Each phase against what this machine can do at best");
  const auto options = std::make_shared<Options>();
  options->model.AddTo(command, true);
  command->add_option("-r,--repetitions", options->repetitions, "Medians of this many")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000));
  auto* const busy =
      command
          ->add_option("--busy", options->busy,
                       "Instead, a few phases beside this many processes that do nothing but\n"
                       "compute, and what share of the quiet speed is left: 1,2,4")
          ->delimiter(',')
          ->check(CLI::Range(1, 1024));
  command
      ->add_option("--cases", options->cases,
                   "Instead, time the cases in this JSON file (-: standard input): a list of\n"
                   "  {\"what\": \"prefill\", \"tokens\": [ids], \"new_tokens\": 1}\n"
                   "  {\"what\": \"decode\", \"tokens\": [ids], \"new_tokens\": N}\n"
                   "  {\"what\": \"recycled\", \"tokens\": [ids], \"cached\": N, "
                   "\"new_tokens\": 1}\n"
                   "  {\"what\": \"embed\", \"text\": \"...\"}")
      ->excludes(busy);
  command->add_flag("--json", options->json, "Machine-readable output");
  command->footer(
      "Examples:\n"
      "  kvr bench\n"
      "  kvr bench --model models/dialogpt-medium-random.pt --json > bench.json\n"
      "  kvr bench --busy 1,2,4\n"
      "  kvr bench --cases cases.json --repetitions 3 --json");
  command->callback([options] { Run(*options); });
}

}  // namespace kvr::cli
