// Private to kvr cache: its options, and its subcommands.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "commands.h"
#include "kvr/cache/store.h"

namespace kvr::cli {

struct CacheOptions {
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

// Each prints what it did, as text or as JSON.
void ListEntries(const CacheOptions& options);
// Throws as ForMatching.
void ShowEntry(const CacheOptions& options);
// Throws as ForMatching; kInvalidInput unless either an entry or all are asked for.
void RemoveEntries(const CacheOptions& options);
// Throws kCorrupt where a problem was found and not set aside.
void VerifyCaches(const CacheOptions& options);

// Visits every cache of this version below the folder; no model is loaded. `damaged`: as for
// ListCacheFolders.
void ForEachStore(const CacheOptions& options, cache::Store::Mode mode,
                  const std::function<void(const cache::CacheFolder&, cache::Store&)>& visit,
                  std::vector<std::string>* damaged = nullptr);

// Finds the entry whose id begins with options.entry, in every cache that has it, and visits it.
// Throws kNotFound where there is none, kInvalidInput, before any visit, where there are several.
void ForMatching(const CacheOptions& options, cache::Store::Mode mode,
                 const std::function<void(const cache::CacheFolder&, cache::Store&,
                                          const cache::EntryInfo&)>& visit);

}  // namespace kvr::cli
