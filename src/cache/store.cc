// How a store is opened, read and closed; put.cc, remove.cc and verify.cc have its other methods.
#include "kvr/cache/store.h"

#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "files.h"
#include "folder.h"
#include "kvr/base/error.h"
#include "lock.h"
#include "rebuild.h"
#include "restore.h"
#include "store_writer.h"
#include "transaction.h"

namespace kvr::cache {

namespace fs = std::filesystem;

std::int64_t NowUs() {
  return std::chrono::duration_cast<std::chrono::microseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

Store::Writer::Writer(Store* store, int timeout_ms)
    : guard_(store->mutex_), fd_(store->lock_file_.get()) {
  store->RequireWritable();
  WaitForLock(fd_, LOCK_EX, store->files_->folder(), timeout_ms);
  try {
    // Another process may have replaced a damaged index, or a person deleted it.
    if (store->index_ != nullptr && InodeOf(store->files_->IndexPath()) != store->index_inode_) {
      store->OpenIndex();
    }
  } catch (...) {
    ::flock(fd_, LOCK_UN);
    throw;
  }
}

Store::Writer::~Writer() { ::flock(fd_, LOCK_UN); }

Store::Store(const fs::path& cache_dir, const CacheKey& key, Options options)
    : options_(std::move(options)),
      files_(std::make_unique<Files>(cache_dir, key, options_.mode == Mode::kReadOnly)) {
  read_only() ? OpenForReading() : OpenForWriting();
}

Store::~Store() {
  try {
    Close();
  } catch (const std::exception& e) {
    spdlog::warn("cache {}: access times are lost: {}", folder().string(), e.what());
  }
}

const fs::path& Store::folder() const { return files_->folder(); }

bool Store::read_only() const { return files_->read_only(); }

void Store::OpenForWriting() {
  for (const char* name : {"blocks", "entries", "quarantine"}) CreateFolders(folder() / name);
  lock_file_ = OpenLock(folder());
  if (lock_file_.get() < 0) {
    throw IoError("cannot open " + (folder() / kLockName).string(), errno);
  }
  const Writer writer(this, options_.lock_timeout_ms);
  if (!KeyFileIsSound()) {
    // The folder's name commits to the key: there is no doubt about what the file should say.
    WriteAndRename(files_->KeyPath(), files_->key().ToJson());
    SyncFolder(folder());
  }
  // Whoever holds the lock is the only writer: a temporary file is nobody's.
  for (const fs::path& path : ListFolder(folder()).leftovers) Unlink(path);
  OpenIndex();
}

bool Store::KeyFileIsSound() const {
  const fs::path path = files_->KeyPath();
  if (TypeOf(path) == 0) return false;
  try {
    if (files_->KeyFileStatesKey()) return true;
    spdlog::warn("{} states another cache key than its folder's name", path.string());
  } catch (const Error& e) {
    spdlog::warn("damaged: {}", e.what());
  }
  return false;
}

void Store::OpenForReading() {
  if (TypeOf(folder()) != S_IFDIR) {
    throw NotFound(fmt::format(
        "there is no cache folder {}: nothing has been stored with this model and these settings",
        folder().string()));
  }
  (void)KeyFileIsSound();  // warns
  try {
    index_ =
        std::make_unique<Index>(files_->IndexPath(), files_->key_hash(), Index::Mode::kReadOnly);
    (void)index_->Load();  // what can't be used is better known now
  } catch (const Error& e) {
    spdlog::warn("cache {}: reading the files instead of the index: {}", folder().string(),
                 e.what());
    index_ = std::make_unique<Index>(files_->key_hash());
    cache::RebuildIndex(index_.get(), *files_, ListFolder(folder()), /*set_aside=*/false);
  }
}

// REQUIRES: the lock is held.
void Store::OpenIndex() {
  const fs::path path = files_->IndexPath();
  const auto open = [&] {
    return std::make_unique<Index>(path, files_->key_hash(), Index::Mode::kReadWrite);
  };
  // On an exception the inode stays the old one's, and the next writer tries again.
  try {
    index_ = open();
    if (const FolderFiles present = ListFolder(folder());
        !IndexAgrees(index_.get(), *files_, present)) {
      spdlog::warn("cache {}: index and files disagree; rebuilding the index", folder().string());
      cache::RebuildIndex(index_.get(), *files_, present, /*set_aside=*/true);
    }
  } catch (const Error& e) {
    if (e.kind() != Error::Kind::kCorrupt && e.kind() != Error::Kind::kIncompatible) throw;
    spdlog::warn("cache {}: replacing the index: {}", folder().string(), e.what());
    // The journal first: left beside a new database, it would be played back into it.
    Unlink(folder() / kJournalName);
    Unlink(path);
    index_ = open();
    cache::RebuildIndex(index_.get(), *files_, ListFolder(folder()), /*set_aside=*/true);
  }
  index_inode_ = InodeOf(path);
}

void Store::Close() {
  if (index_ == nullptr) return;
  if (!read_only() && !accesses_.empty()) {
    const Writer writer(this, options_.lock_timeout_ms);
    Transaction transaction(index_.get());
    for (const auto& [id, access] : accesses_) index_->AddHits(id, access.hits, access.last_us);
    transaction.Commit();
    accesses_.clear();
  }
  index_.reset();
}

void Store::Step(std::string_view name) const {
  if (options_.before_step) options_.before_step(name);
}

void Store::RequireWritable() const {
  if (read_only()) {
    throw Error(Error::Kind::kIo, "the cache " + folder().string() + " is open read-only");
  }
}

IndexPicture Store::LoadIndex() const {
  const std::lock_guard guard(mutex_);
  IndexPicture picture = index_->Load();
  for (EntryRow& row : picture.entries) {
    if (const auto access = accesses_.find(row.id); access != accesses_.end()) {
      row.hits += access->second.hits;
      row.last_access_us = std::max(row.last_access_us, access->second.last_us);
    }
  }
  return picture;
}

std::vector<EntryInfo> Store::List() const {
  IndexPicture picture = LoadIndex();
  std::map<Digest, std::uint32_t> uses;
  for (const EntryRow& row : picture.entries) {
    for (const Digest& hash : row.chain) ++uses[hash];
  }
  std::vector<EntryInfo> infos;
  for (EntryRow& row : picture.entries) {
    EntryInfo info;
    info.bytes = row.file_bytes;
    info.blocks = static_cast<std::uint32_t>(row.chain.size());
    for (const Digest& hash : row.chain) {
      const auto block = picture.blocks.find(hash);
      if (block == picture.blocks.end()) {
        ++info.missing_blocks;
        continue;
      }
      info.bytes += block->second.file_bytes;
      if (uses[hash] > 1) ++info.shared_blocks;
    }
    info.row = std::move(row);
    infos.push_back(std::move(info));
  }
  return infos;
}

View Store::MakeView() const {
  return {LoadIndex(), files_->key_hash(), files_->key().block_tokens};
}

RestoreResult Store::Restore(const Plan& plan, const KvBufferView& buffer, int threads) {
  if (plan.CapacityNeeded() > buffer.capacity_tokens) {
    throw InvalidInput(fmt::format("a plan that reads {} tokens for a buffer of {}",
                                   plan.CapacityNeeded(), buffer.capacity_tokens));
  }
  const std::vector<BlockOutcome> outcomes = ReadBlocks(*files_, plan, buffer, threads);
  for (std::size_t at = outcomes.size(); at-- > 0;) {
    const BlockOutcome& outcome = outcomes[at];
    if (outcome.state == BlockOutcome::State::kCorrupt && !outcome.why.empty()) {
      SetAsideBlock(plan.blocks[at].hash, outcome);
    } else if (outcome.state == BlockOutcome::State::kUnreadable &&
               !warned_unreadable_.exchange(true)) {
      spdlog::warn("a saved block can't be read, so it is computed again: {}", outcome.why);
    }
  }
  RestoreResult result = ResultOf(plan, outcomes);
  if (result.tokens > 0 && plan.entry) {
    const std::lock_guard guard(mutex_);
    Access& access = accesses_[*plan.entry];
    ++access.hits;
    access.last_us = NowUs();
  }
  return result;
}

void Store::DropFromPageCache(const Plan& plan) const { cache::DropFromPageCache(*files_, plan); }

void Store::SetAsideBlock(const Digest& hash, const BlockOutcome& outcome) {
  const fs::path path = files_->BlockPath(hash);
  if (files_->read_only()) {
    spdlog::warn("damaged, and left in place in a read-only cache: {}", outcome.why);
    return;
  }
  try {
    Step("set aside");
    // A busy store is not waited for: whoever writes the block again finds it damaged too.
    const Writer writer(this, /*timeout_ms=*/0);
    if (InodeOf(path) != outcome.inode) return;  // stored anew meanwhile, or gone
    if (files_->SetAside(path, outcome.why)) index_->DeleteBlock(hash);
  } catch (const Error& e) {
    spdlog::warn("damaged: {}; not set aside: {}", outcome.why, e.what());
  }
}

void Store::RebuildIndex() {
  const Writer writer(this, options_.lock_timeout_ms);
  cache::RebuildIndex(index_.get(), *files_, ListFolder(folder()), /*set_aside=*/true);
}

}  // namespace kvr::cache
