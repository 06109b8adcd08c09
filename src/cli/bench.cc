#include "kvr/experiment/bench.h"

#include <spdlog/fmt/fmt.h>
#include <unistd.h>

#include <algorithm>
#include <iostream>
#include <optional>
#include <utility>

#include "commands.h"
#include "kvr/base/clock.h"
#include "kvr/base/error.h"
#include "kvr/base/file.h"
#include "kvr/base/interrupt.h"
#include "kvr/base/progress.h"
#include "kvr/experiment/bench_busy.h"
#include "kvr/experiment/bench_cases.h"
#include "kvr/experiment/bench_profile.h"

namespace kvr::cli {

namespace {

namespace fs = std::filesystem;

struct BenchOptions {
  ModelOptions model;
  int repetitions = 5;
  std::string cases;
  std::vector<int> busy;
  bool profile = false, json = false;
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
std::string Range(const std::vector<double>& numbers, int decimals) {
  const auto [least, greatest] = std::minmax_element(numbers.begin(), numbers.end());
  if (numbers.size() == 1) return Fixed(*least, decimals);
  return fmt::format("{} to {}", Fixed(*least, decimals), Fixed(*greatest, decimals));
}

// Model and machine: what every table of this command begins with.
std::string Heading(const experiment::BenchSetting& setting) {
  const Json &model = setting.model, &environment = setting.environment;
  return fmt::format(
      "{}, {}, {}, {}, {} threads", model["name"].get<std::string>(),
      model["precision"].get<std::string>(), environment["cpu_model"].get<std::string>(),
      environment["instruction_set"].get<std::string>(), environment["threads"].get<int>());
}

void Print(const experiment::BenchResult& result) {
  const experiment::BenchLimits& limits = result.limits;
  std::cout << Heading(result.setting) << "; medians of " << result.setting.repetitions << "\n"
            << "limits, measured beside the phases that they bound: read "
            << Range(limits.read_gb_per_s, 1) << " GB/s, copy " << Range(limits.copy_gb_per_s, 1)
            << " GB/s (read + write);\n"
            << "        GEMM GFLOP/s by rows:";
  for (const char* separator = " "; const auto& [rows, rates] : limits.gemm_gflop_per_s_by_rows) {
    std::cout << std::exchange(separator, ", ") << rows << ": " << Range(rates, 0);
  }
  std::cout << "\n\n";
  std::vector<std::vector<std::string>> rows = {
      {"phase", "what", "measured", "bound", "unit", "of bound"}};
  const auto number = [](double value) { return Fixed(value, value < 10 ? 3 : 1); };
  for (const experiment::BenchRow& row : result.rows) {
    const std::optional<double> ratio = row.ratio();
    rows.push_back({row.phase, row.what, number(row.measured), row.bound ? number(*row.bound) : "-",
                    row.unit, ratio ? Fixed(*ratio, 2) : "-"});
  }
  std::cout << AlignColumns(rows) << "of bound: 1.00 is the bound itself.\n";
}

void Print(const experiment::BusyResult& result) {
  std::cout << fmt::format("{} on {} cores; medians of {}\n\n", Heading(result.setting),
                           result.cores, result.setting.repetitions);
  std::vector<std::vector<std::string>> rows = {
      {"phase", "what", "beside", "quiet", "measured", "unit", "share", "fair", "of fair"}};
  const auto number = [](double value) { return Fixed(value, value < 10 ? 2 : 1); };
  for (const experiment::BusyRow& row : result.rows) {
    rows.push_back({row.phase, row.what, std::to_string(row.loops), number(row.quiet),
                    number(row.measured), row.unit, Fixed(row.share, 2), Fixed(row.fair_share, 2),
                    Fixed(row.share / row.fair_share, 2)});
  }
  std::cout
      << AlignColumns(rows)
      << "beside: processes that do nothing but compute. share: of the quiet speed. fair: the\n"
         "share when the system gives each process' threads and each loop the same.\n";
}

void Print(const experiment::BenchProfileResult& result) {
  std::cout << fmt::format("{}; means of {}\n", Heading(result.setting),
                           result.setting.repetitions);
  for (const experiment::BenchProfile& profile : result.profiles) {
    std::cout << fmt::format("\n{}: {:.2f} ms\n", profile.what, profile.ms);
    std::vector<std::vector<std::string>> rows = {{"operator", "calls", "ms", "share", "GFLOP/s"}};
    const auto add = [&](const std::string& name, const std::string& calls, double ms,
                         const std::string& rate) {
      rows.push_back({name, calls, Fixed(ms, 2), Fixed(100 * ms / profile.ms, 1) + " %", rate});
    };
    for (const model::OperatorTime& part : profile.operators) {
      add(part.name, std::to_string(part.calls), part.ms,
          part.flop > 0 ? Fixed(part.flop / part.ms / 1e6, 0) : "-");
    }
    add("outside of them", "-", profile.OutsideMs(), "-");
    std::cout << AlignColumns(rows);
  }
}

// Cases have no table; Run() refuses them without --json.
void Print(const experiment::BenchCasesResult&) {}

std::vector<experiment::BenchCase> ReadCases(const std::string& file, int vocab) {
  const bool from_stdin = file == "-";
  const std::string where = from_stdin ? "standard input" : file;
  return experiment::ReadBenchCases(ParseJson(from_stdin ? ReadStdin() : ReadFile(file), where),
                                    vocab, where);
}

void Run(const BenchOptions& options) {
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
  const experiment::BenchOptions bench = {
      .scratch = scratch.path(), .repetitions = options.repetitions, .progress = progress};
  const auto show = [&](const auto& result) {
    line.reset();
    if (options.json) {
      std::cout << ToJson(result).dump(2) << "\n";
    } else {
      Print(result);
    }
  };
  if (options.profile) {
    show(experiment::RunBenchProfile(generator, bench));
  } else if (!options.busy.empty()) {
    show(experiment::RunBenchBusy(generator, options.busy, bench));
  } else if (options.cases.empty()) {
    show(experiment::RunBench(generator, bench));
  } else {
    const auto cases = ReadCases(options.cases, generator.info().vocab);
    show(experiment::RunBenchCases(generator, cases, bench));
  }
}

}  // namespace

void AddBench(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("bench", "Each phase against what this machine can do at best");
  const auto options = std::make_shared<BenchOptions>();
  options->model.AddTo(command, true);
  command
      ->add_option("-r,--repetitions", options->repetitions,
                   "Medians of this many (a profile: means)")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000));
  auto* const busy =
      command
          ->add_option("--busy", options->busy,
                       "Instead, a few phases beside this many processes that do nothing but\n"
                       "compute, and what share of the quiet speed is left: 1,2,4")
          ->delimiter(',')
          ->check(CLI::Range(1, 1024));
  auto* const profile =
      command
          ->add_flag("--profile", options->profile,
                     "Instead, where the time of prefill, suffix prefill and decoding goes, by\n"
                     "operator of the network")
          ->excludes(busy);
  command
      ->add_option("--cases", options->cases,
                   "Instead, time the cases in this JSON file (-: standard input): a list of\n"
                   "  {\"what\": \"prefill\", \"tokens\": [ids], \"new_tokens\": 1}\n"
                   "  {\"what\": \"decode\", \"tokens\": [ids], \"new_tokens\": N}\n"
                   "  {\"what\": \"recycled\", \"tokens\": [ids], \"cached\": N, "
                   "\"new_tokens\": 1}\n"
                   "  {\"what\": \"embed\", \"text\": \"...\"}")
      ->excludes(busy)
      ->excludes(profile);
  command->add_flag("--json", options->json, "Machine-readable output");
  command->footer(
      "Examples:\n"
      "  kvr bench\n"
      "  kvr bench --model models/dialogpt-medium-random.pt --json > bench.json\n"
      "  kvr bench --busy 1,2,4\n"
      "  kvr bench --profile\n"
      "  kvr bench --cases cases.json --repetitions 3 --json");
  command->callback([options] { Run(*options); });
}

}  // namespace kvr::cli
