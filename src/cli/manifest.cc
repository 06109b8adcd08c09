#include "kvr/experiment/manifest.h"

#include <spdlog/fmt/fmt.h>

#include <iostream>

#include "commands.h"
#include "kvr/base/interrupt.h"
#include "kvr/base/progress.h"
#include "manifest.h"

namespace kvr::cli {
namespace {

using experiment::Manifest;

std::string HumanTime(double seconds) {
  if (seconds < 120) return Fixed(seconds, 0) + " s";
  if (seconds < 7200) return Fixed(seconds / 60, 0) + " min";
  return Fixed(seconds / 3600, 1) + " h";
}

void PrintUnits(const experiment::Config& config, const Manifest& manifest) {
  std::vector<std::vector<std::string>> rows = {{"unit", "group", "shard", "prompts"}};
  for (const experiment::ManifestModel& model : manifest.models) {
    rows[0].push_back("tokens" + (manifest.models.size() > 1 ? ", " + model.name : ""));
  }
  for (const experiment::Unit& unit : manifest.units) {
    rows.push_back({Shortened(unit.name, 40),
                    Shortened(config.test_prompts[unit.prompts.front()].group, 30),
                    std::to_string(unit.shard), std::to_string(unit.prompts.size())});
    for (const experiment::ManifestModel& model : manifest.models) {
      std::int64_t tokens = 0;
      for (const std::size_t prompt : unit.prompts) tokens += model.prompt_tokens[prompt];
      rows.back().push_back(std::to_string(tokens));
    }
  }
  std::cout << AlignColumns(rows) << "\n";
}

void PrintShards(const Manifest& manifest) {
  std::vector<std::vector<std::string>> rows = {
      {"shard", "units", "prompts", "cells", "prompt tokens", "new tokens", "time"}};
  for (std::size_t index = 0; index < manifest.shards.size(); ++index) {
    const experiment::ManifestShard& shard = manifest.shards[index];
    rows.push_back({fmt::format("{}/{}", index, manifest.shards.size()),
                    std::to_string(shard.units), std::to_string(shard.prompts),
                    std::to_string(shard.cells), std::to_string(shard.prompt_tokens),
                    std::to_string(shard.new_tokens),
                    shard.seconds ? HumanTime(*shard.seconds) : "-"});
  }
  std::cout << AlignColumns(rows);
}

void PrintSpeeds(const Manifest& manifest) {
  for (const experiment::ManifestModel& model : manifest.models) {
    if (!model.speed) continue;
    std::cout << fmt::format(
        "{} ({}) on this machine, one run: {:.2f} ms a token of prefill ({} tokens), {:.2f} ms a "
        "token of decoding ({} tokens)\n",
        model.name, model.precision, model.speed->prefill_ms_per_token,
        model.speed->prefilled_tokens, model.speed->decode_ms_per_token,
        model.speed->decoded_tokens);
  }
  std::cout << "tokens: of all cells, prompts' and new ones at most; time: of those at that speed "
               "as if nothing were reused, with\nthe runs that cells are compared with and filling "
               "the cache, without loading, calibration and warm-ups\n";
}

}  // namespace

void PrintManifest(const experiment::Config& config, int shards, const ManifestOptions& options) {
  Manifest manifest = experiment::MakeManifest(config, shards);
  if (!options.no_estimate) {
    ProgressLine progress(ProgressLine::Elsewhere::kEveryTenSeconds);
    experiment::Estimate(
        config,
        [&](const std::string& what) {
          ThrowIfInterrupted();
          progress.Show(what);
        },
        &manifest);
  }
  if (options.json) {
    std::cout << ToJson(config, manifest).dump(1, ' ', false, Json::error_handler_t::replace)
              << "\n";
    return;
  }
  std::int64_t cells = 0;
  for (const experiment::ManifestShard& shard : manifest.shards) cells += shard.cells;
  std::cout << fmt::format(
      "{}: {} models, {} prompts to cache, {} to test, {} ways of reuse, {} repetitions: {} cells, "
      "up to {} new tokens each\n\n",
      config.name, config.models.size(), config.cache_prompts.size(), config.test_prompts.size(),
      config.reuses.size(), config.repetitions, cells, config.marks.back());
  PrintUnits(config, manifest);
  PrintShards(manifest);
  if (!options.no_estimate) PrintSpeeds(manifest);
}

}  // namespace kvr::cli
