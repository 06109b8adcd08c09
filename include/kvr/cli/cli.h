// The command line: parsing, dispatch, and the one place that prints errors.
//
// Thread safety: none; once in a process, whose streams, signals and limits it sets up.
#pragma once

namespace kvr::cli {

// Runs the program and returns its exit code (see kvr::Error::exit_code). Results go to stdout,
// logs and progress to stderr. Throws nothing, but with --debug whatever ended the command.
int Main(int argc, char** argv);

}  // namespace kvr::cli
