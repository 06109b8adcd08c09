#include <spdlog/fmt/fmt.h>

#include <cmath>
#include <iostream>

#include "commands.h"
#include "kvr/base/error.h"
#include "kvr/model/runtime.h"

namespace kvr::cli {

namespace {

void Info(const std::string& path, bool json) {
  const model::ArchiveInfo info = model::ReadArchiveInfo(path);
  Json shown = info.metadata;
  shown.erase("tokenizer");
  shown.erase("template");
  shown["archive_bytes"] = std::filesystem::file_size(path);
  if (json) {
    std::cout << shown.dump(2) << "\n";
    return;
  }
  std::vector<std::vector<std::string>> rows = {{"field", "value"}};
  for (const auto& [key, value] : shown.items()) {
    rows.push_back({key, value.is_string() ? value.get<std::string>() : DumpLine(value)});
  }
  std::cout << AlignColumns(rows);
}

// Throws kCorrupt unless an embedding has length 1.
void CheckUnitLength(const std::string& path) {
  model::Encoder encoder(path);
  const Tokens ids = {101, 102};
  double norm = 0;
  for (const float x : encoder.Embed(ids)) norm += static_cast<double>(x) * x;
  if (std::abs(norm - 1) < 1e-4) return;
  throw Corrupt(fmt::format("{}: an embedding's squared length is {:f}, expected 1", path, norm));
}

void Verify(const std::string& path, int threads, bool json) {
  const model::ArchiveInfo info = model::ReadArchiveInfo(path);
  model::SetUpRuntime(threads);
  model::VerifyWeights(info);
  std::optional<model::Probe> probe;  // of a language model
  if (info.kind == "encoder") {
    CheckUnitLength(path);
  } else {
    probe = model::LanguageModel(path, {}).RunProbe();
  }
  if (json) {
    Json result = {
        {"archive", path}, {"name", info.name}, {"fingerprint", info.fingerprint}, {"loads", true}};
    if (probe) {
      result["probe"] = {
          {"exact", probe->exact}, {"cuts", probe->cuts}, {"first_bad", probe->first_bad}};
    } else {
      result["unit_length"] = true;
    }
    std::cout << result.dump(2) << "\n";
    return;
  }
  std::cout << path << ": " << info.name << " loads and runs\n";
  if (!probe) return;
  std::cout << (probe->exact ? "exact inside blocks: rows do not depend on how a block is cut ("
                             : "exact at block edges only: a cut inside a block changed a bit (")
            << probe->cuts << " cuts tried)\n";
}

}  // namespace

void AddModel(CLI::App& app) {
  CLI::App* command = app.add_subcommand("model", "Look into a model archive");
  command->require_subcommand(1);
  struct Options {
    std::string file;
    bool json = false;
    int threads = 0;
  };
  const auto options = std::make_shared<Options>();
  for (const bool verify : {false, true}) {
    CLI::App* sub = command->add_subcommand(
        verify ? "verify" : "info",
        verify ? "Check its weights, run it, and probe whether rows depend on how a block is cut"
               : "Show what the archive says of itself");
    sub->add_option("file", options->file, "Archive")->required();
    sub->add_flag("--json", options->json, "Machine-readable output");
    if (verify) sub->add_option("--threads", options->threads, "Compute threads");
    sub->footer(verify ? "Example:\n  kvr model verify models/smollm2.pt"
                       : "Example:\n  kvr model info models/smollm2.pt --json");
    sub->callback([options, verify] {
      if (verify) {
        Verify(options->file, options->threads, options->json);
      } else {
        Info(options->file, options->json);
      }
    });
  }
}

}  // namespace kvr::cli
