// What a store's methods take and give (store.h).
//
// Thread safety: plain values. Errors: what went wrong beside a result is a count or a list in it;
// what leaves no result is thrown (store.h).
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "kvr/base/types.h"
#include "kvr/cache/index.h"
#include "kvr/cache/match.h"

namespace kvr::cache {

// A prompt to be stored.
struct NewEntry {
  std::string text;
  Tokens tokens;
  std::vector<float> embedding;  // unit length, or empty
  std::string encoder;           // fingerprint of what made the embedding
  std::uint32_t pieces_embedded = 0;
  std::uint32_t pieces_total = 0;  // word pieces of the text; more than embedded: truncated
};

struct PutResult {
  Digest entry{};
  bool created = false;  // false: the entry was there already
  std::uint32_t blocks_written = 0;
  std::uint32_t blocks_shared = 0;
  std::uint64_t bytes_written = 0;  // files, headers included
};

struct RemoveResult {
  std::uint32_t blocks_removed = 0;
  std::uint64_t bytes_freed = 0;
};

struct EntryInfo {
  EntryRow row;
  std::uint64_t bytes = 0;          // its file and all its blocks
  std::uint32_t blocks = 0;         // tail included
  std::uint32_t shared_blocks = 0;  // of those, used by other entries too
  std::uint32_t missing_blocks = 0;
};

struct RestoreResult {
  std::uint32_t tokens = 0;      // restored: plan.depth, or the tokens before the first bad block
  LimitedBy limited_by{};        // the plan's reason, or kCorrupt or kEvicted when shortened
  std::uint32_t corrupt = 0;     // blocks that failed a check
  std::uint32_t missing = 0;     // blocks whose file is gone
  std::uint32_t unreadable = 0;  // blocks whose file is there and can't be read
  std::uint32_t blocks = 0;      // read, a tail included
  std::uint32_t files = 0;       // opened for it
  std::uint64_t bytes = 0;       // payload read, as the codec stores it
  // Of the blocks' pages, in the page cache before (ResidentFraction). Absent when unknown.
  std::optional<double> resident_fraction;
};

struct ClearResult {
  std::uint64_t entries = 0, blocks = 0, set_aside = 0;  // files removed
  std::uint64_t bytes_freed = 0;
  std::vector<std::filesystem::path> left;  // nothing that a cache has made
};

struct VerifyReport {
  struct Problem {
    std::string path;  // relative to the store's folder
    std::string what;
  };
  std::uint32_t entries = 0;  // sound files
  std::uint32_t blocks = 0;
  std::uint64_t bytes = 0;          // of sound files
  std::uint32_t unused_blocks = 0;  // sound, but of no entry: what an interrupted Put left
  std::uint32_t set_aside = 0;
  std::vector<Problem> problems;
};

}  // namespace kvr::cache
