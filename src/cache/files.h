// Private to the cache layer: the files of one key's folder. Where they lie, how they are read with
// all checks, and how those that fail them are set aside.
//
// Thread safety: const methods may run concurrently.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

#include "kvr/cache/block.h"
#include "kvr/cache/index.h"
#include "kvr/cache/key.h"

namespace kvr::cache {

class Files {
 public:
  // Warns of a folder that others can write, and of one that can't be written: it is read-only.
  // Throws kInvalidInput for a key that fails CacheKey::Check.
  Files(const std::filesystem::path& cache_dir, const CacheKey& key, bool read_only);

  [[nodiscard]] const CacheKey& key() const { return key_; }
  [[nodiscard]] const Digest& key_hash() const { return format_.key_hash(); }
  [[nodiscard]] const BlockFormat& format() const { return format_; }
  [[nodiscard]] bool read_only() const { return read_only_; }
  [[nodiscard]] const std::filesystem::path& folder() const { return folder_; }
  [[nodiscard]] std::filesystem::path KeyPath() const;
  [[nodiscard]] std::filesystem::path IndexPath() const;
  [[nodiscard]] std::filesystem::path BlockPath(const Digest& hash) const;
  [[nodiscard]] std::filesystem::path EntryPath(const Digest& id) const;

  // Whether key.json states this key. Throws as CacheKey::FromFile does.
  [[nodiscard]] bool KeyFileStatesKey() const;

  // A block, its payload unread. Throws kCorrupt, kNotFound, kIo.
  [[nodiscard]] BlockRow ReadBlock(const std::filesystem::path& path, const Digest& hash) const;
  // The same of a block that is read whole, into `scratch`.
  [[nodiscard]] BlockRow CheckBlock(const std::filesystem::path& path, const Digest& hash,
                                    std::vector<std::byte>* scratch) const;
  // The same of an entry, which is always read whole.
  [[nodiscard]] EntryRow CheckEntry(const std::filesystem::path& path, const Digest& id) const;

  // Moves a file to quarantine/, unless the store is read-only, and says so in the log. Returns
  // whether it could.
  bool SetAside(const std::filesystem::path& path, const std::string& why) const;

 private:
  const CacheKey key_;
  const BlockFormat format_;
  const std::filesystem::path folder_;
  const bool read_only_;
};

}  // namespace kvr::cache
