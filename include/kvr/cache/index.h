// The index: what the cache's files hold, in one SQLite database. It is derived from the files and
// rebuilt from them; only hit counts and access times live here alone.
//
// Rollback journal and synchronous=FULL.
//
// Thread safety: none; several processes may share one index.
// Every function throws kIo or kResource when SQLite fails, kCorrupt when the database is damaged.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "kvr/base/types.h"
#include "kvr/cache/chain.h"

struct sqlite3;

namespace kvr::cache {

struct BlockRow {
  Digest hash;
  Digest parent;
  std::uint32_t tokens = 0;
  std::uint64_t file_bytes = 0;

  bool operator==(const BlockRow&) const = default;
};

struct EntryRow {
  Digest id = {};
  std::string text = {};
  Tokens tokens = {};
  std::vector<float> embedding = {};  // unit length, or empty when none was given
  std::string encoder = {};  // fingerprint of the sentence encoder, empty without embedding
  std::uint32_t pieces_embedded = 0;
  std::uint32_t pieces_total = 0;
  std::int64_t created_us = 0;      // since 1970; strictly increasing within one cache
  std::uint64_t file_bytes = 0;     // of the entry's own file
  std::uint64_t hits = 0;           // as of the last Close of a store
  std::int64_t last_access_us = 0;  // 0: never
  std::vector<Digest> chain = {};   // its blocks and tail, in order

  bool operator==(const EntryRow&) const = default;
};

struct IndexPicture {
  std::vector<EntryRow> entries;  // in order of creation
  std::map<Digest, BlockRow> blocks;
};

class Index {
 public:
  enum class Mode { kReadWrite, kReadOnly };

  // Opens the database at `path`, creating it for kReadWrite. Throws kCorrupt when the file is
  // damaged or no database, kIncompatible when it is not an index of this version and key,
  // kNotFound when absent and kReadOnly.
  Index(const std::filesystem::path& path, const Digest& key_hash, Mode mode);
  // An index in memory, for when none can be had on disk.
  explicit Index(const Digest& key_hash);
  ~Index();
  Index(const Index&) = delete;
  Index& operator=(const Index&) = delete;

  // Changes between Begin and Commit take effect together or not at all. Begin waits for other
  // processes' transactions.
  void Begin();
  void Commit();
  // Undoes what came since Begin; does nothing when no transaction is open.
  void Rollback() noexcept;

  void Clear();
  void PutBlock(const BlockRow& block);
  void PutEntry(const EntryRow& entry);
  void DeleteBlock(const Digest& hash);
  void DeleteEntry(const Digest& id);
  void AddHits(const Digest& id, std::uint64_t hits, std::int64_t last_access_us);

  [[nodiscard]] bool HasEntry(const Digest& id) const;
  // The latest created_us, or 0.
  [[nodiscard]] std::int64_t NewestEntry() const;
  // Everything, as of one moment.
  [[nodiscard]] IndexPicture Load();

 private:
  class Statement;
  void Open(const std::string& path, int flags);
  void Execute(const char* sql) const;

  struct Closer {
    void operator()(sqlite3* db) const;
  };

  std::unique_ptr<sqlite3, Closer> db_;
};

}  // namespace kvr::cache
