// Store: one cache key's folder of blocks and entries (docs/cache_format.md).
//
// The files are the truth; the index is derived from them. Blocks are immutable: a name commits to
// the value. Several processes may share one folder: writers and Verify take turns by a lock file,
// other readers need none, and a file that is gone when a reader wants it counts as evicted.
//
// Thread safety: all methods may run concurrently, Close excepted; writers wait for each other.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kvr/base/file.h"
#include "kvr/base/types.h"
#include "kvr/cache/chain.h"
#include "kvr/cache/index.h"
#include "kvr/cache/key.h"
#include "kvr/cache/results.h"
#include "kvr/cache/view.h"

namespace kvr::cache {

class Files;
class Transaction;
struct BlockOutcome;

// Removes every entry, block and set-aside file of every cache below `cache_dir`, of whatever key
// or version, with index and key; open stores of other processes go on as with an empty one. Needs
// no space on the disk. What no cache has made stays. Throws kNotFound, kIo, kResource,
// kInterrupted.
ClearResult ClearCaches(const std::filesystem::path& cache_dir, int lock_timeout_ms = 60'000);

class Store {
 public:
  enum class Mode { kReadWrite, kReadOnly };
  struct Options {
    Mode mode = Mode::kReadWrite;
    // For tests of faults and crashes: called before each step of a change with its name. What it
    // throws is treated as the step's failure.
    std::function<void(std::string_view step)> before_step = {};
    // How long a writer, or Verify, waits for another process before it throws kResource.
    int lock_timeout_ms = 60'000;
  };

  // Opens the subfolder of `cache_dir` named by `key`. kReadWrite creates what is absent, removes
  // what killed writers left, and, when index and files disagree or the index is damaged or
  // foreign, rebuilds the index; if the folder exists but cannot be written, it opens read-only
  // with a warning. kReadOnly writes nothing; without a usable index it reads the files' headers
  // instead. Throws kNotFound when the folder is absent and cannot be or is not to be created,
  // kCorrupt or kIncompatible when its key.json is another key's, kIo, kResource, kInvalidInput
  // for a key that fails CacheKey::Check.
  Store(const std::filesystem::path& cache_dir, const CacheKey& key, Options options);
  Store(const std::filesystem::path& cache_dir, const CacheKey& key)
      : Store(cache_dir, key, Options()) {}
  // Closes; a failure is logged.
  ~Store();
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;

  // Writes hit counts and access times, which until then are in memory only. Nothing else may be
  // called afterwards. Throws as the index does.
  void Close();

  // Stores an entry whose keys and values are `source`'s first entry.tokens.size() positions.
  // Durable once this returns; on an exception the store is as it was. Blocks that are stored
  // already are shared, not written; an entry of the same text, tokens and encoder is left as it
  // is, except that blocks it has lost are written again.
  // `exact_tokens`: how many leading positions of `source` hold what a prefill from exact ancestors
  // computes. Anything else must not be stored: throws kInvalidInput when that is fewer than the
  // entry's tokens, or the entry is empty or not UTF-8, or the codec cannot hold a number of it.
  // Throws kIo or kResource when a file or the index cannot be written, or the store is read-only.
  PutResult Put(const NewEntry& entry, const KvBufferView& source, std::uint32_t exact_tokens);

  // Removes the entry, and the blocks that no entry uses any more, those too that an interrupted
  // Put or Remove left, by the chains of the entries' own files. Durable once this returns; needs
  // no space. Throws kNotFound, kIo, kResource. Cost: a read of every entry's file.
  RemoveResult Remove(const Digest& entry);
  // Removes blocks that no entry uses.
  RemoveResult RemoveUnused();

  // All entries in order of creation; hits of this session included. Throws as the index does.
  // Cost: a read of the index.
  [[nodiscard]] std::vector<EntryInfo> List() const;
  // A picture of the index as it is now. Throws as the index does. Cost: a read of the index.
  [[nodiscard]] View MakeView() const;

  // Reads the plan's blocks into `buffer`, each at its own position, by the pool's threads,
  // `threads` at most (see base/pool.h). Every block's header, length and checksum are checked, and
  // its tokens and parent against the plan, so that a damaged index cannot cause a wrong restore. A
  // bad block is moved to quarantine/ if the folder can be written, counted, and shortens the
  // result. Buffer positions from result.tokens on are unspecified, also inside a block that was
  // restored in part (it is read whole, because the checksum covers it whole); the caller zeroes
  // what it needs zero. Counts a hit for plan.entry when any token was restored. A file that is
  // there and cannot be read shortens the result too, with one warning for the store. REQUIRES:
  // buffer.capacity_tokens >= plan.CapacityNeeded(); kInvalidInput otherwise.
  RestoreResult Restore(const Plan& plan, const KvBufferView& buffer, int threads);

  // Asks the operating system to forget the plan's files, so that the next Restore reads the disk.
  // A request, not a guarantee: see RestoreResult::resident_fraction.
  void DropFromPageCache(const Plan& plan) const;

  // Reads every file and checks it, then chains and index against the files, while no other process
  // writes. With `set_aside`, damaged files are moved to quarantine/ and the index is brought up to
  // date. Throws kIo when files cannot be listed or read, kResource; damage is reported, not
  // thrown.
  VerifyReport Verify(bool set_aside);

  // Makes the index anew from the files. Hits and access times survive if the old index can be
  // read. Files that cannot be read are moved to quarantine/.
  void RebuildIndex();

  [[nodiscard]] const std::filesystem::path& folder() const;
  [[nodiscard]] bool read_only() const;

 private:
  class Writer;

  void OpenForWriting();
  void OpenForReading();
  void OpenIndex();
  // Whether key.json is there and states this store's key; a warning where it is and doesn't.
  [[nodiscard]] bool KeyFileIsSound() const;
  void Step(std::string_view name) const;
  void RequireWritable() const;
  [[nodiscard]] IndexPicture LoadIndex() const;

  void PutBlocks(const std::vector<ChainLink>& chain, const Tokens& tokens,
                 const KvBufferView& source, Transaction* transaction, PutResult* result);
  void PutEntry(EntryRow* row, Transaction* transaction, PutResult* result);
  void Sync(const std::filesystem::path& folder);
  // Unless this store has synced it before: for folders in which it has changed nothing.
  void SyncOnce(const std::filesystem::path& folder);

  void SetAsideBlock(const Digest& hash, const BlockOutcome& outcome);
  void RemoveUnusedBlocks(RemoveResult* result);
  void Forget(const std::function<void()>& change);

  struct Access {
    std::uint64_t hits = 0;
    std::int64_t last_us = 0;
  };

  const Options options_;
  const std::unique_ptr<const Files> files_;

  mutable std::mutex mutex_;  // guards what follows
  std::unique_ptr<Index> index_;
  std::uint64_t index_inode_ = 0;
  UniqueFd lock_file_;
  std::map<Digest, Access> accesses_;
  std::set<std::filesystem::path> synced_;  // folders, by this store
  std::atomic<bool> warned_unreadable_ = false;
};

}  // namespace kvr::cache
