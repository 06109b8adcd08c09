#include "cache.h"

#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>

#include <iostream>
#include <optional>

#include "kvr/base/error.h"
#include "kvr/base/file.h"
#include "kvr/base/interrupt.h"
#include "kvr/base/progress.h"

namespace kvr::cli {

namespace {

std::vector<BatchLine> Prompts(const CacheOptions& options) {
  std::vector<BatchLine> batch;
  for (const std::string& prompt : options.prompts) {
    batch.push_back({std::to_string(batch.size() + 1),
                     Sanitize(prompt == "-" ? ReadStdin() : prompt, "the prompt")});
  }
  if (!options.file.empty()) {
    batch.push_back({options.file, Sanitize(ReadFile(options.file), options.file)});
  }
  if (!options.jsonl.empty()) {
    for (BatchLine& line : ReadBatch(options.jsonl)) batch.push_back(std::move(line));
  }
  if (batch.empty()) {
    throw InvalidInput("nothing to add: give prompts, --file or --jsonl");
  }
  return batch;
}

Json AddedJson(const std::string& prompt, const engine::SaveResult& result) {
  return {{"id", Hex(result.put.entry)},
          {"prompt", prompt},
          {"created", result.put.created},
          {"tokens", result.tokens},
          {"prefill_ms", result.prefill_ms},
          {"save_ms", result.save_ms},
          {"blocks_written", result.put.blocks_written},
          {"blocks_shared", result.put.blocks_shared},
          {"bytes", result.put.bytes_written}};
}

std::vector<std::string> AddedRow(const std::string& prompt, const engine::SaveResult& result) {
  return {Hex(result.put.entry).substr(0, 12),
          prompt,
          std::to_string(result.tokens),
          Fixed(result.prefill_ms, 1),
          Fixed(result.save_ms, 1),
          std::to_string(result.put.blocks_written),
          std::to_string(result.put.blocks_shared),
          HumanBytes(result.put.bytes_written)};
}

void Add(const CacheOptions& options) {
  const std::vector<BatchLine> batch = Prompts(options);
  engine::Generator generator = options.model.Load(/*needs_encoder=*/true);
  if (generator.encoder() == nullptr) {
    spdlog::warn("no sentence encoder: these entries can be found by policy prefix only");
  }
  generator.OpenStore(options.model.cache_dir, {}, options.model.codec);
  std::vector<std::vector<std::string>> rows = {
      {"id", "prompt", "tokens", "prefill_ms", "save_ms", "blocks", "shared", "bytes"}};
  std::optional<ProgressLine> progress(ProgressLine::Elsewhere::kNone);
  for (std::size_t i = 0; i < batch.size(); ++i) {
    ThrowIfInterrupted();
    progress->Show("adding " + std::to_string(i + 1) + " of " + std::to_string(batch.size()));
    generator.ForgetBuffer();
    engine::SaveResult result;
    try {
      result = generator.Save(batch[i].text, options.model.codec);
    } catch (const Error& error) {
      progress->Keep();
      throw Error(error.kind(), fmt::format("prompt {}: {} ({} of {} were added before it)",
                                            batch[i].id, error.what(), i, batch.size()));
    }
    if (options.json) std::cout << DumpLine(AddedJson(batch[i].id, result)) << std::endl;
    rows.push_back(AddedRow(batch[i].id, result));
  }
  progress.reset();
  if (!options.json) std::cout << AlignColumns(rows);
}

}  // namespace

void AddCache(CLI::App& app) {
  CLI::App* command = app.add_subcommand("cache", "Add, list, show, remove and verify entries");
  command->require_subcommand(1);
  const auto options = std::make_shared<CacheOptions>();

  CLI::App* add = command->add_subcommand("add", "Compute prompts' keys and values and keep them");
  options->model.AddTo(add, true);
  options->model.AddCodecTo(add);
  add->add_option("prompts", options->prompts, "Prompts; - is standard input");
  add->add_option("--file", options->file, "A text file: one prompt, whole");
  add->add_option("--jsonl", options->jsonl, "Lines of {\"id\": ..., \"text\": ...}");
  add->add_flag("--json", options->json, "One JSON line for each prompt");
  add->footer(
      "Examples:\n"
      "  kvr cache add 'You are a helpful librarian.'\n"
      "  kvr cache add --jsonl configs/prompts/paper_cache.jsonl\n"
      "  kvr cache add 'You are a helpful librarian.' --codec int8");
  add->callback([options] { Add(*options); });

  const auto with_cache = [&](const char* name, const char* what, const char* example) {
    CLI::App* sub = command->add_subcommand(name, what);
    options->model.AddCacheTo(sub);
    sub->add_flag("--json", options->json, "Machine-readable output");
    sub->footer(std::string("Example:\n  ") + example);
    return sub;
  };
  with_cache("ls", "List entries", "kvr cache ls --json")->callback([options] {
    ListEntries(*options);
  });
  CLI::App* show = with_cache("show", "Show one entry", "kvr cache show 3f2a --json");
  show->add_option("entry", options->entry, "The first digits of its id")->required();
  show->callback([options] { ShowEntry(*options); });
  CLI::App* remove =
      with_cache("rm", "Remove entries and blocks that no other uses", "kvr cache rm 3f2a");
  remove->add_option("entry", options->entry, "The first digits of its id");
  remove->add_flag("--all", options->all, "Every entry");
  remove->callback([options] { RemoveEntries(*options); });
  CLI::App* verify = with_cache("verify", "Check every file", "kvr cache verify --set-aside");
  verify->add_flag("--set-aside", options->set_aside, "Move damaged files to quarantine/");
  verify->add_flag("--rebuild-index", options->rebuild_index, "Make the index anew from the files");
  verify->callback([options] { VerifyCaches(*options); });
}

}  // namespace kvr::cli
