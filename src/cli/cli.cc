#include "kvr/cli/cli.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <iostream>
#include <new>
#include <string_view>
#include <vector>

#include "commands.h"
#include "kvr/base/error.h"
#include "kvr/base/interrupt.h"
#include "kvr/base/log.h"

namespace kvr::cli {

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
      "  kvr cache add 'You are a helpful librarian.'\n"
      "  kvr run 'You are a helpful librarian. Where are the maps?'\n"
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

  const auto report = [](const std::string& message) {
    std::cout.flush();
    std::cerr << "kvr: " << message << "\n";
  };
  const auto run = [&] {
    try {
      app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
      return app.exit(error) == 0 ? 0 : 2;
    }
    std::cout.flush();
    if (!std::cout) throw Error(Error::Kind::kIo, "cannot write to standard output");
    return 0;
  };
  // An error that nobody catches ends the program with its stack as it is.
  if (debug) return run();
  try {
    return run();
  } catch (const Error& error) {
    report(error.what());
    return error.exit_code();
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
