#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>

#include <iostream>

#include "cache.h"
#include "kvr/base/error.h"
#include "kvr/base/interrupt.h"

namespace kvr::cli {

namespace {

bool Matches(const cache::EntryInfo& entry, const CacheOptions& options) {
  return Hex(entry.row.id).starts_with(options.entry);
}

Json ReportJson(const std::string& key, const cache::VerifyReport& report) {
  Json problems = Json::array();
  for (const auto& problem : report.problems) {
    problems.push_back({{"path", problem.path}, {"problem", problem.what}});
  }
  return {{"cache_key", key},
          {"entries", report.entries},
          {"blocks", report.blocks},
          {"bytes", report.bytes},
          {"unused_blocks", report.unused_blocks},
          {"set_aside", report.set_aside},
          {"problems", problems}};
}

void PrintReport(const std::string& key, const cache::VerifyReport& report) {
  for (const auto& problem : report.problems) {
    std::cout << problem.path << ": " << problem.what << "\n";
  }
  std::cout << fmt::format(
      "cache {}: {} entries and {} blocks are sound ({}), {} blocks unused, {} problems, {} set "
      "aside\n",
      key.substr(0, 12), report.entries, report.blocks, HumanBytes(report.bytes),
      report.unused_blocks, report.problems.size(), report.set_aside);
}

// Every entry of every cache, whatever its key or version.
void RemoveAll(const CacheOptions& options) {
  const cache::ClearResult cleared = cache::ClearCaches(options.model.cache_dir);
  for (const std::filesystem::path& path : cleared.left) {
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
  std::cout << fmt::format("removed {} {}, {} blocks and {} files set aside, {} freed\n",
                           cleared.entries, cleared.entries == 1 ? "entry" : "entries",
                           cleared.blocks, cleared.set_aside, HumanBytes(cleared.bytes_freed));
}

}  // namespace

void ForEachStore(const CacheOptions& options, cache::Store::Mode mode,
                  const std::function<void(const cache::CacheFolder&, cache::Store&)>& visit,
                  std::vector<std::string>* damaged) {
  for (const cache::CacheFolder& folder :
       cache::ListCacheFolders(options.model.cache_dir, damaged)) {
    ThrowIfInterrupted();
    cache::Store store(options.model.cache_dir, folder.key, {.mode = mode});
    visit(folder, store);
  }
}

void ForMatching(const CacheOptions& options, cache::Store::Mode mode,
                 const std::function<void(const cache::CacheFolder&, cache::Store&,
                                          const cache::EntryInfo&)>& visit) {
  int matching = 0;
  ForEachStore(options, cache::Store::Mode::kReadOnly,
               [&](const cache::CacheFolder&, cache::Store& store) {
                 for (const auto& entry : store.List()) matching += Matches(entry, options) ? 1 : 0;
               });
  if (matching > 1) {
    throw InvalidInput(fmt::format("'{}' begins the ids of {} entries; give more digits",
                                   options.entry, matching));
  }
  int found = 0;
  ForEachStore(options, mode, [&](const cache::CacheFolder& folder, cache::Store& store) {
    for (const cache::EntryInfo& entry : store.List()) {
      if (!Matches(entry, options)) continue;
      ++found;
      visit(folder, store, entry);
    }
  });
  if (found == 0) {
    throw NotFound(
        fmt::format("no entry with an id that begins with '{}' in {}; kvr cache ls lists them",
                    options.entry, options.model.cache_dir));
  }
}

void RemoveEntries(const CacheOptions& options) {
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
    std::cout << fmt::format("removed {} {}, {} freed\n", removed,
                             removed == 1 ? "entry" : "entries", HumanBytes(freed));
  }
}

void VerifyCaches(const CacheOptions& options) {
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
        const std::string key = folder.path.filename().string();
        if (options.json) {
          result.push_back(ReportJson(key, report));
        } else {
          PrintReport(key, report);
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
    throw Corrupt(
        fmt::format("{} problems in the cache; kvr cache verify --set-aside moves damaged "
                    "files out",
                    problems));
  }
}

}  // namespace kvr::cli
