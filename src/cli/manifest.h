// Private to the command line: what kvr sweep --dry-run shows.
#pragma once

#include "kvr/experiment/config.h"

namespace kvr::cli {

struct ManifestOptions {
  bool json = false;
  bool no_estimate = false;
};

// Prints what the sweep will do in each of `shards`, and how long that takes on this machine.
void PrintManifest(const experiment::Config& config, int shards, const ManifestOptions& options);

}  // namespace kvr::cli
