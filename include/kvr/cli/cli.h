// The command line: parsing, dispatch, and the one place that prints errors.
#pragma once

namespace kvr::cli {

// Runs the program and returns its exit code (see kvr::Error::exit_code). Results go to stdout,
// logs and progress to stderr.
int Main(int argc, char** argv);

}  // namespace kvr::cli
