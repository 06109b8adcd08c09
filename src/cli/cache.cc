#include <spdlog/spdlog.h>

#include <array>
#include <iostream>
#include <numeric>
#include <optional>

#include "commands.h"
#include "kvr/base/clock.h"
#include "kvr/base/error.h"
#include "kvr/base/file.h"
#include "kvr/base/interrupt.h"
#include "kvr/base/progress.h"

namespace kvr::cli {

namespace {

namespace fs = std::filesystem;

struct Options {
  ModelOptions model;
  std::vector<std::string> prompts;
  std::string file;
  std::string jsonl;
  std::string entry;
  bool json = false;
  bool set_aside = false;
  bool rebuild_index = false;
  bool all = false;
};

void Add(const Options& options) {
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
      throw Error(error.kind(), "prompt " + batch[i].id + ": " + error.what() + " (" +
                                    std::to_string(i) + " of " + std::to_string(batch.size()) +
                                    " were added before it)");
    }
    const std::string id = Hex(result.put.entry);
    if (options.json) {
      std::cout << DumpLine({{"id", id},
                             {"prompt", batch[i].id},
                             {"created", result.put.created},
                             {"tokens", result.tokens},
                             {"prefill_ms", result.prefill_ms},
                             {"save_ms", result.save_ms},
                             {"blocks_written", result.put.blocks_written},
                             {"blocks_shared", result.put.blocks_shared},
                             {"bytes", result.put.bytes_written}})
                << std::endl;
    }
    rows.push_back(
        {id.substr(0, 12), batch[i].id, std::to_string(result.tokens), Fixed(result.prefill_ms, 1),
         Fixed(result.save_ms, 1), std::to_string(result.put.blocks_written),
         std::to_string(result.put.blocks_shared), HumanBytes(result.put.bytes_written)});
  }
  progress.reset();
  if (!options.json) std::cout << AlignColumns(rows);
}

// Control characters, which a terminal would obey, as their codes; lines and tabs stay.
std::string Visible(const std::string& text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    // U+0080 to U+009F are the two bytes C2 80 to C2 9F.
    const bool wide =
        c == 0xC2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xA0;
    if (!wide && (c >= 0x20 || c == '\n' || c == '\t') && c != 0x7F) {
      out += text[i];
      continue;
    }
    const std::array bytes = {wide ? static_cast<std::uint8_t>(text[++i]) : c};
    out += "\\x" + Hex(bytes);
  }
  return out;
}

// One line, at most `width` characters of text.
std::string Excerpt(const std::string& text, std::size_t width) {
  std::string line;
  std::size_t count = 0;
  for (const char c : text) {
    if ((static_cast<unsigned char>(c) & 0xC0) != 0x80 && ++count > width) {
      return Visible(line) + "...";
    }
    line += c == '\n' || c == '\t' || c == '\r' ? ' ' : c;
  }
  return Visible(line);
}

std::string Age(std::int64_t created_us) {
  const std::int64_t seconds = std::max<std::int64_t>(0, UnixSeconds() - created_us / 1000000);
  if (seconds < 120) return std::to_string(seconds) + " s";
  if (seconds < 7200) return std::to_string(seconds / 60) + " min";
  if (seconds < 172800) return std::to_string(seconds / 3600) + " h";
  return std::to_string(seconds / 86400) + " d";
}

Json EntryJson(const cache::EntryInfo& entry, const cache::CacheFolder& folder) {
  const cache::EntryRow& row = entry.row;
  return {
      {"id", Hex(row.id)},
      {"cache_key", folder.path.filename().string()},
      {"codec", cache::ToString(folder.key.codec)},
      {"text", row.text},
      {"tokens", row.tokens.size()},
      {"bytes", entry.bytes},
      {"blocks", entry.blocks},
      {"shared_blocks", entry.shared_blocks},
      {"missing_blocks", entry.missing_blocks},
      {"created", UtcTimestamp(row.created_us / 1000000)},
      {"last_access",
       row.last_access_us == 0 ? Json(nullptr) : Json(UtcTimestamp(row.last_access_us / 1000000))},
      {"hits", row.hits},
      {"encoder", row.encoder.empty() ? Json(nullptr) : Json(row.encoder)},
      {"pieces_embedded", row.pieces_embedded},
      {"pieces_total", row.pieces_total}};
}

// Visits every cache of this version below the folder; no model is loaded. `damaged`: as for
// ListCacheFolders.
template <typename Visit>
void ForEachStore(const Options& options, cache::Store::Mode mode, Visit&& visit,
                  std::vector<std::string>* damaged = nullptr) {
  const std::vector<cache::CacheFolder> folders =
      cache::ListCacheFolders(options.model.cache_dir, damaged);
  for (const cache::CacheFolder& folder : folders) {
    ThrowIfInterrupted();
    cache::Store store(options.model.cache_dir, folder.key, {.mode = mode});
    visit(folder, store);
  }
}

void List(const Options& options) {
  Json entries = Json::array();
  ForEachStore(
      options, cache::Store::Mode::kReadOnly,
      [&](const cache::CacheFolder& folder, cache::Store& store) {
        const std::vector<cache::EntryInfo> list = store.List();
        if (!options.json) {
          std::cout << "cache " << folder.path.filename().string().substr(0, 12) << ": model "
                    << folder.key.model_fingerprint.substr(0, 12) << ", codec "
                    << cache::ToString(folder.key.codec) << ", " << folder.key.device << ", "
                    << folder.key.instruction_set << ", " << folder.key.threads
                    << " threads, blocks of " << folder.key.block_tokens << " tokens, "
                    << list.size() << (list.size() == 1 ? " entry\n" : " entries\n");
        }
        std::vector<std::vector<std::string>> rows = {
            {"id", "tokens", "bytes", "blocks", "shared", "age", "hits", "text"}};
        for (const cache::EntryInfo& entry : list) {
          if (options.json) {
            entries.push_back(EntryJson(entry, folder));
          }
          rows.push_back({Hex(entry.row.id).substr(0, 12), std::to_string(entry.row.tokens.size()),
                          HumanBytes(entry.bytes), std::to_string(entry.blocks),
                          std::to_string(entry.shared_blocks), Age(entry.row.created_us),
                          std::to_string(entry.row.hits), Excerpt(entry.row.text, 48)});
        }
        if (!options.json && !list.empty()) std::cout << AlignColumns(rows);
      });
  if (options.json) std::cout << entries.dump(2) << "\n";
}

// Finds the entries whose id begins with options.entry, in every cache, and visits them.
template <typename Visit>
void ForMatching(const Options& options, cache::Store::Mode mode, Visit&& visit) {
  if (!options.all) {
    int matching = 0;
    ForEachStore(options, cache::Store::Mode::kReadOnly,
                 [&](const cache::CacheFolder&, cache::Store& store) {
                   for (const cache::EntryInfo& entry : store.List()) {
                     matching += Hex(entry.row.id).starts_with(options.entry) ? 1 : 0;
                   }
                 });
    if (matching > 1) {
      throw InvalidInput("'" + options.entry + "' begins the ids of " + std::to_string(matching) +
                         " entries; give more digits");
    }
  }
  int found = 0;
  ForEachStore(options, mode, [&](const cache::CacheFolder& folder, cache::Store& store) {
    std::vector<cache::EntryInfo> matching;
    for (cache::EntryInfo& entry : store.List()) {
      if (options.all || Hex(entry.row.id).starts_with(options.entry)) {
        matching.push_back(std::move(entry));
      }
    }
    for (const cache::EntryInfo& entry : matching) {
      ++found;
      visit(folder, store, entry);
    }
  });
  if (found == 0 && !options.all) {
    throw NotFound("no entry with an id that begins with '" + options.entry + "' in " +
                   options.model.cache_dir + "; kvr cache ls lists them");
  }
}

void Show(const Options& options) {
  ForMatching(
      options, cache::Store::Mode::kReadOnly,
      [&](const cache::CacheFolder& folder, cache::Store&, const cache::EntryInfo& entry) {
        Json json = EntryJson(entry, folder);
        json["token_ids"] = entry.row.tokens;
        json["chain"] = Json::array();
        for (const Digest& hash : entry.row.chain) json["chain"].push_back(Hex(hash));
        if (options.json) {
          std::cout << json.dump(2) << "\n";
          return;
        }
        std::vector<std::vector<std::string>> rows = {{"field", "value"}};
        for (const auto& [key, value] : json.items()) {
          if (key == "text" || key == "token_ids" || key == "chain") continue;
          rows.push_back({key, value.is_string() ? value.get<std::string>() : DumpLine(value)});
        }
        std::cout << AlignColumns(rows) << "\n" << Visible(entry.row.text) << "\n";
      });
}

// Every entry of every cache, whatever its key or version.
void RemoveAll(const Options& options) {
  const cache::ClearResult cleared = cache::ClearCaches(options.model.cache_dir);
  for (const fs::path& path : cleared.left) {
    spdlog::warn("left in place, as no cache has made it: {}", path.string());
  }
  if (options.json) {
    std::cout << DumpLine({{"removed", cleared.entries},
                           {"blocks_removed", cleared.blocks},
                           {"set_aside_removed", cleared.set_aside},
                           {"bytes_freed", cleared.bytes_freed}})
              << "\n";
    return;
  }
  std::cout << "removed " << cleared.entries << (cleared.entries == 1 ? " entry, " : " entries, ")
            << cleared.blocks << " blocks and " << cleared.set_aside << " files set aside, "
            << HumanBytes(cleared.bytes_freed) << " freed\n";
}

void Remove(const Options& options) {
  if (options.entry.empty() == !options.all) throw InvalidInput("give an entry's id, or --all");
  if (options.all) return RemoveAll(options);
  std::uint64_t freed = 0;
  int removed = 0;
  try {
    ForMatching(options, cache::Store::Mode::kReadWrite,
                [&](const cache::CacheFolder&, cache::Store& store, const cache::EntryInfo& entry) {
                  freed += store.Remove(entry.row.id).bytes_freed;
                  ++removed;
                });
  } catch (const Error& error) {
    if (error.kind() != Error::Kind::kNotFound) throw;
    // A removal that was interrupted has left blocks of no entry: this one completes it.
    ForEachStore(options, cache::Store::Mode::kReadWrite,
                 [&](const cache::CacheFolder&, cache::Store& store) {
                   freed += store.RemoveUnused().bytes_freed;
                 });
    if (freed == 0) throw;
  }
  if (options.json) {
    std::cout << DumpLine({{"removed", removed}, {"bytes_freed", freed}}) << "\n";
  } else {
    std::cout << "removed " << removed << (removed == 1 ? " entry, " : " entries, ")
              << HumanBytes(freed) << " freed\n";
  }
}

void Verify(const Options& options) {
  Json result = Json::array();
  std::size_t problems = 0;
  std::vector<std::string> damaged;
  const auto mode = options.set_aside || options.rebuild_index ? cache::Store::Mode::kReadWrite
                                                               : cache::Store::Mode::kReadOnly;
  ForEachStore(
      options, mode,
      [&](const cache::CacheFolder& folder, cache::Store& store) {
        if (options.rebuild_index) store.RebuildIndex();
        const cache::VerifyReport report = store.Verify(options.set_aside);
        problems += report.problems.size();
        Json list = Json::array();
        for (const auto& problem : report.problems) {
          list.push_back({{"path", problem.path}, {"problem", problem.what}});
          if (!options.json) std::cout << problem.path << ": " << problem.what << "\n";
        }
        result.push_back({{"cache_key", folder.path.filename().string()},
                          {"entries", report.entries},
                          {"blocks", report.blocks},
                          {"bytes", report.bytes},
                          {"unused_blocks", report.unused_blocks},
                          {"set_aside", report.set_aside},
                          {"problems", list}});
        if (!options.json) {
          std::cout << "cache " << folder.path.filename().string().substr(0, 12) << ": "
                    << report.entries << " entries and " << report.blocks << " blocks are sound ("
                    << HumanBytes(report.bytes) << "), " << report.unused_blocks
                    << " blocks unused, " << report.problems.size() << " problems, "
                    << report.set_aside << " set aside\n";
        }
      },
      &damaged);
  problems += damaged.size();
  for (const std::string& what : damaged) {
    result.push_back({{"problems", {{{"path", "key.json"}, {"problem", what}}}}});
    if (!options.json) std::cout << what << "; whoever uses this cache next writes it anew\n";
  }
  if (options.json) std::cout << result.dump(2) << "\n";
  if (problems > 0 && !options.set_aside) {
    throw Corrupt(std::to_string(problems) +
                  " problems in the cache; kvr cache verify --set-aside moves damaged files out");
  }
}

}  // namespace

void AddCache(CLI::App& app) {
  CLI::App* command = app.add_subcommand("cache", "Add, list, show, remove and verify entries");
  command->require_subcommand(1);
  const auto options = std::make_shared<Options>();

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
  with_cache("ls", "List entries", "kvr cache ls --json")->callback([options] { List(*options); });
  CLI::App* show = with_cache("show", "Show one entry", "kvr cache show 3f2a --json");
  show->add_option("entry", options->entry, "The first digits of its id")->required();
  show->callback([options] { Show(*options); });
  CLI::App* remove =
      with_cache("rm", "Remove entries and blocks that no other uses", "kvr cache rm 3f2a");
  remove->add_option("entry", options->entry, "The first digits of its id");
  remove->add_flag("--all", options->all, "Every entry");
  remove->callback([options] { Remove(*options); });
  CLI::App* verify = with_cache("verify", "Check every file", "kvr cache verify --set-aside");
  verify->add_flag("--set-aside", options->set_aside, "Move damaged files to quarantine/");
  verify->add_flag("--rebuild-index", options->rebuild_index, "Make the index anew from the files");
  verify->callback([options] { Verify(*options); });
}

}  // namespace kvr::cli
