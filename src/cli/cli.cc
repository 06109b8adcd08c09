#include "kvr/cli/cli.h"

#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <iostream>
#include <new>
#include <string>
#include <string_view>
#include <vector>

#include "commands.h"
#include "kvr/base/error.h"
#include "kvr/base/interrupt.h"
#include "kvr/base/json.h"
#include "kvr/base/log.h"
#include "kvr/base/process.h"
#include "kvr/experiment/environment.h"

namespace kvr::cli {

namespace {

// CLI11 takes "[a, b]" for a list wherever several values may stand, and "++" for a subcommand's
// end. So that such a text stays as it is, a mark goes behind it before the parse, and off it again
// where it is read.
constexpr char kMark = '\x1f';

// Whether CLI11 would take `arg`, without its last marks, for more than a text.
bool HasMeaning(const std::string& arg) {
  const std::string_view text(arg.data(), arg.find_last_not_of(kMark) + 1);
  return text == "++" || (text.starts_with('[') && text.ends_with(']'));
}

std::vector<std::string> Marked(int argc, char** argv) {
  std::vector<std::string> args(argv + std::min(argc, 1), argv + argc);
  for (std::string& arg : args) {
    if (HasMeaning(arg)) arg += kMark;
  }
  return args;
}

void UnmarkIn(CLI::App& app) {
  const CLI::Validator unmark(
      [](std::string& text) {
        if (HasMeaning(text) && text.back() == kMark) text.pop_back();
        return std::string();
      },
      "", "unmark");
  for (CLI::Option* option : app.get_options()) {
    if (option->get_items_expected_max() > 0) option->transform(unmark);
  }
  for (CLI::App* subcommand : app.get_subcommands([](CLI::App*) { return true; })) {
    UnmarkIn(*subcommand);
  }
}

// CLI11's message, which repeats arguments: those may be long texts.
std::string FailureMessage(const CLI::App* app, const CLI::Error& error) {
  return fmt::format("kvr: {}\nRun {} --help for more information.\n", Shortened(error.what(), 300),
                     app->get_name());
}

struct Common {
  std::string log_level = "info";
  bool debug = false;
};

// Options of the program itself, and all subcommands.
void AddAll(CLI::App& app, Common* common) {
  app.set_version_flag("--version", "kvr " + experiment::VersionAndCommit());
  app.require_subcommand(1);
  app.fallthrough();
  app.get_formatter()->column_width(34);
  app.add_option("--log-level", common->log_level, "trace, debug, info, warning, error or off")
      ->capture_default_str();
  app.add_flag("--debug", common->debug,
               "Let an error end the program where it arises (for a debugger)");
  app.footer(
      "Examples:\n"
      "  kvr run --prompt-file configs/prompts/library.txt --template chat --save\n"
      "  kvr run --prompt-file configs/prompts/library_2.txt --template chat\n"
      "  kvr sweep configs/paper.json && kvr report results/paper/latest\n"
      "Each subcommand has --help with examples of its own.");
  app.parse_complete_callback([common] {
    SetUpLogging(common->log_level);
    CatchInterrupts();
  });
  AddRun(app);
  AddSweep(app);
  AddMerge(app);
  AddReport(app);
  AddCompare(app);
  AddBaseline(app);
  AddCheck(app);
  AddCache(app);
  AddModel(app);
  AddTokenize(app);
  AddBench(app);
  AddTrace(app);
  app.failure_message(FailureMessage);
  UnmarkIn(app);
}

// Parses, which runs the command. Returns the exit code; throws what the command throws.
int Run(CLI::App& app, int argc, char** argv) {
  PrepareProcess();
  std::cout.exceptions(std::ios::badbit | std::ios::failbit);  // the first lost byte ends it
  int status = 0;
  try {
    std::vector<std::string> args = Marked(argc, argv);
    std::ranges::reverse(args);  // as CLI11 wants them
    app.parse(std::move(args));
  } catch (const CLI::ParseError& error) {
    status = app.exit(error) == 0 ? 0 : 2;
  }
  std::cout.flush();
  return status;
}

void Report(const std::string& message) {
  std::cout.exceptions(std::ios::goodbit);
  std::cout.flush();
  std::cerr << "kvr: " << message << "\n";
}

}  // namespace

int Main(int argc, char** argv) {
  CLI::App app{
      "kvr: how much time does reusing saved keys and values save, and does the answer stay the "
      "same?",
      "kvr"};
  const std::vector<std::string_view> words(argv + std::min(argc, 1), argv + argc);
  Common common{.debug = std::ranges::find(words, "--debug") != words.end()};
  AddAll(app, &common);
  // An error that nobody catches ends the program with its stack as it is.
  if (common.debug) return Run(app, argc, argv);
  try {
    return Run(app, argc, argv);
  } catch (const Error& error) {
    Report(error.what());
    return error.exit_code();
  } catch (const std::ios_base::failure&) {
    Report("cannot write to standard output");
  } catch (const std::bad_alloc&) {
    Report("out of memory");
  } catch (const std::exception& error) {
    Report(fmt::format("internal error: {} (please report it; --debug shows where)", error.what()));
  }
  return 4;
}

}  // namespace kvr::cli
