#include "kvr/cli/cli.h"

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
  return "kvr: " + Shortened(error.what(), 300) + "\nRun " + app->get_name() +
         " --help for more information.\n";
}

}  // namespace

int Main(int argc, char** argv) {
  CLI::App app{
      "kvr: how much time does reusing saved keys and values save, and does the answer stay the "
      "same?",
      "kvr"};
  app.set_version_flag("--version", std::string("kvr " KVR_VERSION " (" KVR_COMMIT ")"));
  app.require_subcommand(1);
  app.fallthrough();
  app.get_formatter()->column_width(34);
  std::string log_level = "info";
  const std::vector<std::string_view> words(argv + std::min(argc, 1), argv + argc);
  bool debug = std::ranges::find(words, "--debug") != words.end();
  app.add_option("--log-level", log_level, "trace, debug, info, warning, error or off")
      ->capture_default_str();
  app.add_flag("--debug", debug, "Let an error end the program where it arises (for a debugger)");
  app.footer(
      "Examples:\n"
      "  kvr run --prompt-file configs/prompts/library.txt --template chat --save\n"
      "  kvr run --prompt-file configs/prompts/library_2.txt --template chat\n"
      "  kvr sweep configs/paper.json && kvr report results/paper/latest\n"
      "Each subcommand has --help with examples of its own.");
  app.parse_complete_callback([&] {
    SetUpLogging(log_level);
    CatchInterrupts();
  });
  AddRun(app);
  AddSweep(app);
  AddReport(app);
  AddCache(app);
  AddModel(app);
  AddTokenize(app);
  AddBench(app);

  app.failure_message(FailureMessage);
  UnmarkIn(app);

  const auto report = [](const std::string& message) {
    std::cout.exceptions(std::ios::goodbit);
    std::cout.flush();
    std::cerr << "kvr: " << message << "\n";
  };
  const auto run = [&] {
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
  };
  // An error that nobody catches ends the program with its stack as it is.
  if (debug) return run();
  try {
    return run();
  } catch (const Error& error) {
    report(error.what());
    return error.exit_code();
  } catch (const std::ios_base::failure&) {
    report("cannot write to standard output");
    return 4;
  } catch (const std::bad_alloc&) {
    report("out of memory");
    return 4;
  } catch (const std::exception& error) {
    report(std::string("internal error: ") + error.what() +
           " (please report it; --debug shows where)");
    return 4;
  }
}

}  // namespace kvr::cli
