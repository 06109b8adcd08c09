// How entries, blocks and whole caches are removed. Nothing here needs space on the disk, and what
// may go is read from the entries' own files: the index is derived from them, and may be wrong.
#include <spdlog/spdlog.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <cerrno>
#include <set>

#include "files.h"
#include "folder.h"
#include "kvr/base/error.h"
#include "kvr/cache/store.h"
#include "lock.h"
#include "store_writer.h"
#include "transaction.h"

namespace kvr::cache {

namespace fs = std::filesystem;

RemoveResult Store::Remove(const Digest& entry) {
  const Writer writer(this, options_.lock_timeout_ms);
  const fs::path path = files_->EntryPath(entry);
  if (!index_->HasEntry(entry) && TypeOf(path) == 0) {
    throw NotFound("the cache has no entry " + Hex(entry));
  }
  // The entry's file first: without it, a crash leaves blocks of no entry, which the next removal
  // or opening finds. The other way round it would leave an entry without blocks.
  Step("unlink entry");
  RemoveResult result;
  result.bytes_freed = UnlinkAndSync({path});
  Step("unlink blocks");
  RemoveUnusedBlocks(&result);
  Step("commit");
  Forget([&] { index_->DeleteEntry(entry); });
  accesses_.erase(entry);
  return result;
}

RemoveResult Store::RemoveUnused() {
  const Writer writer(this, options_.lock_timeout_ms);
  RemoveResult result;
  RemoveUnusedBlocks(&result);
  return result;
}

void Store::RemoveUnusedBlocks(RemoveResult* result) {
  const FolderFiles files = ListFolder(folder());
  std::set<Digest> used;
  for (const auto& [id, path] : files.entries) {
    try {
      const EntryRow row = files_->CheckEntry(path, id);
      used.insert(row.chain.begin(), row.chain.end());
    } catch (const Error& e) {
      spdlog::warn(
          "no block is removed, since one of {} may be its own ({}); kvr cache verify "
          "--set-aside moves damaged files out",
          path.string(), e.what());
      return;
    }
  }
  std::vector<fs::path> unused;
  std::vector<Digest> hashes;
  for (const auto& [hash, path] : files.blocks) {
    if (used.contains(hash)) continue;
    unused.push_back(path);
    hashes.push_back(hash);
  }
  result->bytes_freed += UnlinkAndSync(unused);
  result->blocks_removed += static_cast<std::uint32_t>(unused.size());
  Forget([&] {
    for (const Digest& hash : hashes) index_->DeleteBlock(hash);
  });
}

// The files are the truth: where the index can't be written, the next opening makes it anew.
void Store::Forget(const std::function<void()>& change) {
  try {
    Transaction transaction(index_.get());
    change();
    transaction.Commit();
  } catch (const Error& e) {
    spdlog::warn("cache {}: the index is behind the files and will be made anew: {}",
                 folder().string(), e.what());
  }
}

ClearResult ClearCaches(const fs::path& cache_dir, int lock_timeout_ms) {
  ClearResult result;
  std::error_code error;
  std::vector<fs::path> folders;
  fs::directory_iterator at(cache_dir, error);
  for (; !error && at != fs::directory_iterator(); at.increment(error)) {
    const bool ours =
        IsCacheFolderName(at->path().filename().string()) && TypeOf(at->path()) == S_IFDIR &&
        (TypeOf(at->path() / "entries") == S_IFDIR || TypeOf(at->path() / kLockName) != 0);
    (ours ? folders : result.left).push_back(at->path());
  }
  if (error) throw IoError("cannot list the cache folder " + cache_dir.string(), error.value());
  for (const fs::path& folder : folders) {
    const UniqueFd lock = OpenLock(folder);
    // A full disk has no room for a lock file; then nobody else has one either.
    if (lock.get() < 0 && errno != ENOSPC && errno != EDQUOT) {
      throw IoError("cannot open " + (folder / kLockName).string(), errno);
    }
    if (lock.get() >= 0) WaitForLock(lock.get(), LOCK_EX, folder, lock_timeout_ms);
    const FolderFiles files = ListFolder(folder);
    std::vector<fs::path> all = files.leftovers;
    all.insert(all.end(), files.quarantine.begin(), files.quarantine.end());
    for (const auto& [id, path] : files.entries) all.push_back(path);
    for (const auto& [hash, path] : files.blocks) all.push_back(path);
    // Last: what is left of an interrupted removal is still seen to be a cache.
    for (const char* name : {kJournalName, kIndexName, kKeyName}) {
      if (TypeOf(folder / name) != 0) all.push_back(folder / name);
    }
    result.bytes_freed += UnlinkAndSync(all);
    result.entries += files.entries.size();
    result.blocks += files.blocks.size();
    result.set_aside += files.quarantine.size();
    result.left.insert(result.left.end(), files.foreign.begin(), files.foreign.end());
  }
  return result;
}

}  // namespace kvr::cache
