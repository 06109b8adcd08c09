#include "kvr/cache/store.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <set>
#include <thread>

#include "folder.h"
#include "kvr/base/error.h"
#include "kvr/base/pool.h"
#include "kvr/cache/entry.h"
#include "store_writer.h"

namespace kvr::cache {

namespace fs = std::filesystem;

namespace {

std::int64_t NowUs() {
  return std::chrono::duration_cast<std::chrono::microseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

std::uint64_t InodeOf(const fs::path& path) {
  struct stat info;
  return ::lstat(path.c_str(), &info) == 0 ? info.st_ino : 0;
}
std::uint64_t InodeOf(int fd) {
  struct stat info;
  return ::fstat(fd, &info) == 0 ? info.st_ino : 0;
}

BlockRow RowOf(const Digest& hash, const BlockHeader& header) {
  return {hash, header.parent, static_cast<std::uint32_t>(header.tokens.size()),
          header.data_offset + header.payload_bytes};
}

// Whoever can write the cache can change what is computed from it.
void WarnOfOtherWriters(const fs::path& folder) {
  struct stat info;
  if (::stat(folder.c_str(), &info) != 0) return;
  const std::string path = folder.string();
  if (info.st_uid != ::geteuid() && info.st_uid != 0) {
    spdlog::warn("the cache {} belongs to user {}, who can change what is answered from it", path,
                 info.st_uid);
  } else if ((info.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    spdlog::warn(
        "others can write the cache {}, and so change what is answered from it; chmod go-w", path);
  }
}

}  // namespace

struct Store::BlockOutcome {
  enum class State {
    kNotTried,
    kRestored,
    kMissing,
    kCorrupt,
    kUnreadable
  } state = State::kNotTried;
  std::string why;          // of kCorrupt, if it is the file that is, and of kUnreadable
  std::uint64_t inode = 0;  // of the file that was found to be kCorrupt
  std::uint64_t bytes = 0;
  std::optional<double> resident_fraction;
};

Store::Writer::Writer(Store* store, int timeout_ms)
    : guard_(store->mutex_), fd_(store->lock_file_.get()) {
  store->RequireWritable();
  WaitForLock(fd_, LOCK_EX, store->folder_, timeout_ms);
  try {
    // Another process may have replaced a damaged index, or a person deleted it.
    if (store->index_ != nullptr && InodeOf(store->folder_ / kIndexName) != store->index_inode_) {
      store->OpenIndex();
    }
  } catch (...) {
    ::flock(fd_, LOCK_UN);
    throw;
  }
}

Store::Writer::~Writer() { ::flock(fd_, LOCK_UN); }

Store::Store(const fs::path& cache_dir, const CacheKey& key, Options options)
    : key_(key),
      format_(key),
      folder_(cache_dir / Hex(format_.key_hash())),
      options_(std::move(options)),
      read_only_(options_.mode == Mode::kReadOnly) {
  WarnOfOtherWriters(folder_);
  if (!read_only_ && TypeOf(folder_) == S_IFDIR && ::access(folder_.c_str(), W_OK) != 0) {
    spdlog::warn("the cache folder {} cannot be written; opening it read-only", folder_.string());
    read_only_ = true;
  }
  read_only_ ? OpenForReading() : OpenForWriting();
}

Store::~Store() {
  try {
    Close();
  } catch (const std::exception& e) {
    spdlog::warn("cache {}: access times are lost: {}", folder_.string(), e.what());
  }
}

void Store::OpenForWriting() {
  for (const char* name : {"blocks", "entries", "quarantine"}) CreateFolders(folder_ / name);
  const fs::path lock_path = folder_ / "lock";
  lock_file_ = UniqueFd(::open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (lock_file_.get() < 0) throw IoError("cannot open " + lock_path.string(), errno);
  const Writer writer(this, options_.lock_timeout_ms);
  if (!KeyFileIsSound()) {
    // The folder's name commits to the key: there is no doubt about what the file should say.
    WriteAndRename(folder_ / "key.json", key_.ToJson());
    SyncFolder(folder_);
  }
  // Whoever holds the lock is the only writer: a temporary file is nobody's.
  for (const fs::path& path : ListFolder(folder_).leftovers) Unlink(path);
  OpenIndex();
}

bool Store::KeyFileIsSound() const {
  const fs::path path = folder_ / "key.json";
  if (TypeOf(path) == 0) return false;
  try {
    if (CacheKey::FromFile(path) == key_) return true;
    spdlog::warn("{} states another cache key than its folder's name", path.string());
  } catch (const Error& e) {
    spdlog::warn("damaged: {}", e.what());
  }
  return false;
}

void Store::OpenForReading() {
  if (TypeOf(folder_) != S_IFDIR) {
    throw NotFound("there is no cache folder " + folder_.string() +
                   ": nothing has been stored with this model and these settings");
  }
  (void)KeyFileIsSound();  // warns
  try {
    index_ =
        std::make_unique<Index>(folder_ / kIndexName, format_.key_hash(), Index::Mode::kReadOnly);
    (void)index_->Load();  // what can't be used is better known now
  } catch (const Error& e) {
    spdlog::warn("cache {}: reading the files instead of the index: {}", folder_.string(),
                 e.what());
    index_ = std::make_unique<Index>(format_.key_hash());
    Rebuild(ListFolder(folder_), /*set_aside=*/false);
    index_rebuilt_ = true;
  }
}

// REQUIRES: the lock is held.
void Store::OpenIndex() {
  const fs::path path = folder_ / kIndexName;
  const auto open = [&] {
    return std::make_unique<Index>(path, format_.key_hash(), Index::Mode::kReadWrite);
  };
  // On an exception the inode stays the old one's, and the next writer tries again.
  try {
    index_ = open();
    if (const FolderFiles files = ListFolder(folder_); !IndexAgrees(files)) {
      spdlog::warn("cache {}: index and files disagree; rebuilding the index", folder_.string());
      Rebuild(files, /*set_aside=*/true);
      index_rebuilt_ = true;
    }
  } catch (const Error& e) {
    if (e.kind() != Error::Kind::kCorrupt && e.kind() != Error::Kind::kIncompatible) throw;
    spdlog::warn("cache {}: replacing the index: {}", folder_.string(), e.what());
    // The journal first: left beside a new database, it would be played back into it.
    Unlink(path.string() + "-journal");
    Unlink(path);
    index_ = open();
    Rebuild(ListFolder(folder_), /*set_aside=*/true);
    index_rebuilt_ = true;
  }
  index_inode_ = InodeOf(path);
}

void Store::Close() {
  if (index_ == nullptr) return;
  if (!read_only_ && !accesses_.empty()) {
    const Writer writer(this, options_.lock_timeout_ms);
    index_->Begin();
    try {
      for (const auto& [id, access] : accesses_) index_->AddHits(id, access.hits, access.last_us);
      index_->Commit();
    } catch (...) {
      index_->Rollback();
      throw;
    }
    accesses_.clear();
  }
  index_.reset();
}

void Store::Step(std::string_view name) const {
  if (options_.before_step) options_.before_step(name);
}

void Store::RequireWritable() const {
  if (read_only_) {
    throw Error(Error::Kind::kIo, "the cache " + folder_.string() + " is open read-only");
  }
}

fs::path Store::BlockPath(const Digest& hash) const {
  const std::string hex = Hex(hash);
  return folder_ / "blocks" / hex.substr(0, 2) / (hex + kSuffix);
}

fs::path Store::EntryPath(const Digest& id) const {
  return folder_ / "entries" / (Hex(id) + kSuffix);
}

PutResult Store::Put(const NewEntry& entry, const KvBufferView& source,
                     std::uint32_t exact_tokens) {
  if (entry.tokens.empty()) throw InvalidInput("an entry needs at least one token");
  if (entry.tokens.size() > exact_tokens || exact_tokens > source.capacity_tokens) {
    throw InvalidInput("an entry of " + std::to_string(entry.tokens.size()) + " tokens from " +
                       std::to_string(exact_tokens) + " exact ones in a buffer for " +
                       std::to_string(source.capacity_tokens) +
                       ": only exact keys and values are stored");
  }
  const std::vector<ChainLink> chain = Chain(format_.key_hash(), entry.tokens, key_.block_tokens);
  EntryRow row = {.id = EntryId(entry.text, entry.encoder, chain.back().hash),
                  .text = entry.text,
                  .tokens = entry.tokens,
                  .embedding = entry.embedding,
                  .encoder = entry.encoder,
                  .pieces_embedded = entry.pieces_embedded,
                  .pieces_total = entry.pieces_total};
  for (const ChainLink& link : chain) row.chain.push_back(link.hash);

  const Writer writer(this, options_.lock_timeout_ms);
  PutResult result = {.entry = row.id};
  std::vector<fs::path> written;
  Step("begin");
  index_->Begin();
  try {
    std::set<fs::path> changed, shared;  // folders
    std::vector<std::byte> scratch;
    for (const ChainLink& link : chain) {
      const fs::path path = BlockPath(link.hash);
      if (const std::optional<BlockRow> block = SoundBlock(path, link, &scratch)) {
        shared.insert(path.parent_path());
        index_->PutBlock(*block);  // also where the row is wrong
        ++result.blocks_shared;
        continue;
      }
      Step("block");
      CreateFolders(path.parent_path());
      const std::uint64_t bytes = format_.Write(
          path, link, std::span(entry.tokens).subspan(link.first, link.count), source);
      written.push_back(path);
      changed.insert(path.parent_path());
      index_->PutBlock({link.hash, link.parent, link.count, bytes});
      ++result.blocks_written;
      result.bytes_written += bytes;
    }
    Step("sync blocks");
    for (const fs::path& folder : changed) Sync(folder);
    for (const fs::path& folder : shared) SyncOnce(folder);
    if (!index_->HasEntry(row.id) || TypeOf(EntryPath(row.id)) == 0) {
      Step("entry");
      // Strictly increasing, so that "older" is well defined however the clock is set.
      row.created_us = std::max(NowUs(), index_->NewestEntry() + 1);
      row.file_bytes = WriteEntry(EntryPath(row.id), row, format_.key_hash());
      written.push_back(EntryPath(row.id));
      Step("sync entries");
      Sync(folder_ / "entries");
      index_->PutEntry(row);
      result.created = true;
      result.bytes_written += row.file_bytes;
    }
    // Who made these folders may have been killed before it synced them.
    for (const fs::path& folder : {folder_ / "entries", folder_ / "blocks", folder_,
                                   folder_.parent_path(), folder_.parent_path().parent_path()}) {
      SyncOnce(folder.empty() ? fs::path(".") : folder);
    }
    Step("commit");
    index_->Commit();
  } catch (...) {
    index_->Rollback();
    // The entry first. What cannot be removed is sound, and of no entry: harmless.
    for (auto path = written.rbegin(); path != written.rend(); ++path) {
      std::error_code error;
      if (!fs::remove(*path, error)) {
        spdlog::warn("cannot remove {}: {}", path->string(), error.message());
      }
    }
    throw;
  }
  return result;
}

void Store::Sync(const fs::path& folder) {
  SyncFolder(folder);
  synced_.insert(folder);
}

void Store::SyncOnce(const fs::path& folder) {
  if (!synced_.contains(folder)) Sync(folder);
}

BlockRow Store::CheckBlock(const fs::path& path, const Digest& hash,
                           std::vector<std::byte>* scratch) const {
  const UniqueFd fd = OpenOwnFile(path);
  const BlockHeader header = format_.ReadHeader(fd.get(), path, hash);
  const auto tokens = static_cast<std::uint32_t>(header.tokens.size());
  scratch->resize(key_.shape.PayloadBytes(tokens));
  format_.ReadPayload(fd.get(), path, header,
                      {scratch->data(), scratch->data() + scratch->size() / 2, tokens}, 0);
  return RowOf(hash, header);
}

std::optional<BlockRow> Store::SoundBlock(const fs::path& path, const ChainLink& link,
                                          std::vector<std::byte>* scratch) const {
  try {
    const BlockRow row = CheckBlock(path, link.hash, scratch);
    if (row.parent == link.parent && row.tokens == link.count) return row;
    return std::nullopt;
  } catch (const Error& e) {
    if (e.kind() != Error::Kind::kNotFound) spdlog::warn("written anew: {}", e.what());
    return std::nullopt;
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

EntryInfo Store::Show(const Digest& entry) const {
  for (EntryInfo& info : List()) {
    if (info.row.id == entry) return std::move(info);
  }
  throw NotFound("the cache has no entry " + Hex(entry));
}

View Store::MakeView() const { return {LoadIndex(), format_.key_hash(), key_.block_tokens}; }

Store::BlockOutcome Store::RestoreBlock(const Plan& plan, std::size_t at,
                                        const KvBufferView& buffer) const {
  using State = BlockOutcome::State;
  const PlannedBlock& block = plan.blocks[at];
  const fs::path path = BlockPath(block.hash);
  BlockOutcome outcome;
  UniqueFd fd;
  try {
    fd = OpenOwnFile(path);
    outcome.resident_fraction = ResidentFraction(fd.get(), path);
    const BlockHeader header = format_.ReadHeader(fd.get(), path, block.hash);
    const Digest& parent = at == 0 ? format_.key_hash() : plan.blocks[at - 1].hash;
    const auto expected = std::span(plan.tokens).subspan(block.first, block.used);
    if (header.parent != parent || header.tokens.size() != block.stored ||
        !std::ranges::equal(std::span(header.tokens).first(block.used), expected)) {
      // The file is what its name says; the plan, made from the index, is wrong about it.
      spdlog::warn("{}: the index is wrong about this block; verify the cache", path.string());
      outcome.state = State::kCorrupt;
      return outcome;
    }
    format_.ReadPayload(fd.get(), path, header, buffer, block.first);
    outcome.bytes = header.payload_bytes;
    outcome.state = State::kRestored;
  } catch (const Error& e) {
    if (e.kind() == Error::Kind::kNotFound) {
      outcome.state = State::kMissing;
    } else if (e.kind() == Error::Kind::kCorrupt) {
      outcome.state = State::kCorrupt;
      outcome.why = e.what();
      outcome.inode = InodeOf(fd.get());
    } else {
      outcome.state = State::kUnreadable;
      outcome.why = e.what();
    }
  } catch (const std::bad_alloc&) {
    outcome.state = State::kUnreadable;
    outcome.why = path.string() + ": out of memory";
  }
  return outcome;
}

RestoreResult Store::Restore(const Plan& plan, const KvBufferView& buffer, int threads) {
  if (plan.CapacityNeeded() > buffer.capacity_tokens) {
    throw InvalidInput("a plan that reads " + std::to_string(plan.CapacityNeeded()) +
                       " tokens for a buffer of " + std::to_string(buffer.capacity_tokens));
  }
  std::vector<BlockOutcome> outcomes(plan.blocks.size());
  std::atomic<std::size_t> first_bad{plan.blocks.size()};
  std::mutex failure_mutex;
  std::exception_ptr failure;
  Pool::Global().For(threads, static_cast<int>(plan.blocks.size()), 1, [&](int first, int last) {
    try {
      for (auto at = static_cast<std::size_t>(first); at < static_cast<std::size_t>(last); ++at) {
        if (at >= first_bad) return;  // whatever is behind a bad one is of no use
        outcomes[at] = RestoreBlock(plan, at, buffer);
        if (outcomes[at].state == BlockOutcome::State::kRestored) continue;
        for (std::size_t bad = first_bad; at < bad && !first_bad.compare_exchange_weak(bad, at);) {
        }
      }
    } catch (...) {
      first_bad = 0;
      const std::lock_guard guard(failure_mutex);
      failure = std::current_exception();
    }
  });
  if (failure) std::rethrow_exception(failure);

  RestoreResult result;
  result.limited_by = plan.limited_by;
  result.tokens = plan.depth;
  double resident_bytes = 0;
  bool residency_known = true;
  for (std::size_t at = outcomes.size(); at-- > 0;) {
    const BlockOutcome& outcome = outcomes[at];
    result.bytes += outcome.bytes;
    residency_known &= outcome.bytes == 0 || outcome.resident_fraction.has_value();
    resident_bytes += outcome.resident_fraction.value_or(0) * static_cast<double>(outcome.bytes);
    if (outcome.state == BlockOutcome::State::kMissing) {
      ++result.missing;
      result.limited_by = LimitedBy::kEvicted;
      result.tokens = plan.blocks[at].first;
    } else if (outcome.state == BlockOutcome::State::kCorrupt) {
      ++result.corrupt;
      result.limited_by = LimitedBy::kCorrupt;
      result.tokens = plan.blocks[at].first;
      if (!outcome.why.empty()) SetAsideBlock(plan.blocks[at].hash, outcome);
    } else if (outcome.state == BlockOutcome::State::kUnreadable) {
      ++result.unreadable;
      result.limited_by = LimitedBy::kUnreadable;
      result.tokens = plan.blocks[at].first;
      if (!warned_unreadable_.exchange(true)) {
        spdlog::warn("a saved block can't be read, so it is computed again: {}", outcome.why);
      }
    }
  }
  if (result.bytes > 0 && residency_known) {
    result.resident_fraction = resident_bytes / static_cast<double>(result.bytes);
  }
  if (result.tokens > 0 && plan.entry) {
    const std::lock_guard guard(mutex_);
    Access& access = accesses_[*plan.entry];
    ++access.hits;
    access.last_us = NowUs();
  }
  return result;
}

bool Store::SetAside(const fs::path& path, const std::string& why) const {
  if (read_only_) {
    spdlog::warn("damaged, and left in place in a read-only cache: {}", why);
    return false;
  }
  const fs::path to = folder_ / "quarantine" / path.filename();
  if (::rename(path.c_str(), to.c_str()) != 0) {
    spdlog::warn("damaged, and cannot be set aside ({}): {}", std::strerror(errno), why);
    return false;
  }
  spdlog::warn("damaged, moved to {}: {}", to.string(), why);
  return true;
}

void Store::SetAsideBlock(const Digest& hash, const BlockOutcome& outcome) {
  const fs::path path = BlockPath(hash);
  if (read_only_) {
    spdlog::warn("damaged, and left in place in a read-only cache: {}", outcome.why);
    return;
  }
  try {
    Step("set aside");
    // A busy store is not waited for: whoever writes the block again finds it damaged too.
    const Writer writer(this, /*timeout_ms=*/0);
    if (InodeOf(path) != outcome.inode) return;  // stored anew meanwhile, or gone
    if (SetAside(path, outcome.why)) index_->DeleteBlock(hash);
  } catch (const Error& e) {
    spdlog::warn("damaged: {}; not set aside: {}", outcome.why, e.what());
  }
}

namespace {

// Nothing where the file has gone since the plan was made: Restore is who reports that.
std::optional<UniqueFd> OpenIfThere(const fs::path& path) {
  if (TypeOf(path) == 0) return std::nullopt;
  try {
    return OpenOwnFile(path);
  } catch (const Error& error) {
    if (error.kind() != Error::Kind::kNotFound) throw;
    return std::nullopt;
  }
}

}  // namespace

void Store::DropFromPageCache(const Plan& plan) const {
  for (const PlannedBlock& block : plan.blocks) {
    const fs::path path = BlockPath(block.hash);
    const std::optional<UniqueFd> fd = OpenIfThere(path);
    if (!fd) continue;
    if (const int error = ::posix_fadvise(fd->get(), 0, 0, POSIX_FADV_DONTNEED); error != 0) {
      throw IoError("cannot drop from the page cache: " + path.string(), error);
    }
  }
}

bool Store::IndexAgrees(const FolderFiles& files) const {
  const IndexPicture picture = index_->Load();
  const auto same_name = [](const auto& a, const auto& b) { return a.first == b.first; };
  const auto sound = [&](const EntryRow& row) {
    return files.entries.contains(row.id) &&
           row.chain.size() == (row.tokens.size() + key_.block_tokens - 1) / key_.block_tokens;
  };
  return picture.entries.size() == files.entries.size() &&
         std::ranges::all_of(picture.entries, sound) &&
         std::ranges::equal(picture.blocks, files.blocks, same_name);
}

void Store::Rebuild(const FolderFiles& files, bool set_aside) {
  std::map<Digest, Access> accesses;
  for (const EntryRow& row : index_->Load().entries) {
    accesses[row.id] = {row.hits, row.last_access_us};
  }
  // A file that vanishes meanwhile (only a reader sees that) is as if it had never been.
  const auto try_file = [&](const fs::path& path, const auto& read) {
    try {
      read();
    } catch (const Error& e) {
      if (e.kind() == Error::Kind::kCorrupt && set_aside) {
        SetAside(path, e.what());
      } else if (e.kind() == Error::Kind::kCorrupt) {
        spdlog::warn("ignored: {}", e.what());
      } else if (e.kind() != Error::Kind::kNotFound) {
        throw;
      }
    }
  };
  index_->Begin();
  try {
    index_->Clear();
    for (const auto& [hash, path] : files.blocks) {
      try_file(path, [&, &hash = hash, &path = path] {
        const UniqueFd fd = OpenOwnFile(path);
        index_->PutBlock(RowOf(hash, format_.ReadHeader(fd.get(), path, hash)));
      });
    }
    for (const auto& [id, path] : files.entries) {
      try_file(path, [&, &id = id, &path = path] {
        EntryRow row = ReadEntry(path, id, format_.key_hash(), key_.block_tokens);
        row.hits = accesses[id].hits;
        row.last_access_us = accesses[id].last_us;
        index_->PutEntry(row);
      });
    }
    index_->Commit();
  } catch (...) {
    index_->Rollback();
    throw;
  }
}

void Store::RebuildIndex() {
  const Writer writer(this, options_.lock_timeout_ms);
  Rebuild(ListFolder(folder_), /*set_aside=*/true);
}

VerifyReport Store::Verify(bool set_aside) {
  std::optional<Writer> writer;  // other writers' unfinished work would look like damage
  std::unique_lock<std::mutex> guard(mutex_, std::defer_lock);
  UniqueFd shared;
  if (read_only_) {
    guard.lock();
    shared = UniqueFd(::open((folder_ / "lock").c_str(), O_RDONLY | O_CLOEXEC));
    if (shared.get() >= 0) WaitForLock(shared.get(), LOCK_SH, folder_, options_.lock_timeout_ms);
  } else {
    writer.emplace(this, options_.lock_timeout_ms);
  }

  VerifyReport report;
  const auto problem = [&](const fs::path& path, const std::string& what) {
    report.problems.push_back({path.lexically_relative(folder_).string(), what});
  };
  const FolderFiles files = ListFolder(folder_);
  try {
    if (CacheKey::FromFile(folder_ / "key.json") != key_) {
      problem(folder_ / "key.json", "states another cache key than its folder's name");
    }
  } catch (const Error& e) {
    problem(folder_ / "key.json", e.what());
  }
  for (const fs::path& path : files.leftovers) problem(path, "left by an interrupted write");
  for (const fs::path& path : files.foreign) problem(path, "not a file of this cache; ignored");

  const auto check = [&](const fs::path& path, const auto& read) {
    try {
      read();
    } catch (const Error& e) {
      if (e.kind() != Error::Kind::kCorrupt && e.kind() != Error::Kind::kNotFound) throw;
      problem(path, e.what());
      if (set_aside && e.kind() == Error::Kind::kCorrupt && SetAside(path, e.what())) {
        ++report.set_aside;
      }
    }
  };
  std::map<Digest, BlockRow> blocks;
  std::vector<std::byte> scratch;
  for (const auto& [hash, path] : files.blocks) {
    check(path, [&, &hash = hash, &path = path] {
      blocks[hash] = CheckBlock(path, hash, &scratch);
      report.bytes += blocks[hash].file_bytes;
    });
  }
  std::map<Digest, EntryRow> entries;
  std::set<Digest> used;
  for (const auto& [id, path] : files.entries) {
    check(path, [&, &id = id, &path = path] {
      EntryRow row = ReadEntry(path, id, format_.key_hash(), key_.block_tokens);
      for (std::size_t i = 0; i < row.chain.size(); ++i) {
        used.insert(row.chain[i]);
        if (!blocks.contains(row.chain[i])) {
          problem(path, "block " + std::to_string(i + 1) + " of " +
                            std::to_string(row.chain.size()) + ", " + Hex(row.chain[i]) +
                            ", is missing or damaged");
        }
      }
      report.bytes += row.file_bytes;
      entries[id] = std::move(row);
    });
  }
  report.blocks = static_cast<std::uint32_t>(blocks.size());
  report.entries = static_cast<std::uint32_t>(entries.size());
  for (const auto& [hash, row] : blocks) report.unused_blocks += used.contains(hash) ? 0 : 1;

  const std::size_t problems = report.problems.size();
  IndexPicture picture;
  try {
    picture = index_->Load();
  } catch (const Error& e) {
    if (e.kind() != Error::Kind::kCorrupt) throw;
    problem(folder_ / kIndexName, e.what());
  }
  const auto compare = [&](const char* kind, auto indexed, const auto& sound) {
    for (const auto& [digest, row] : sound) {
      const auto found = indexed.find(digest);
      if (found == indexed.end()) {
        problem(folder_ / kIndexName, std::string(kind) + Hex(digest) + " is not indexed");
      } else {
        if (!(found->second == row)) {
          problem(folder_ / kIndexName, std::string(kind) + Hex(digest) + " is indexed wrongly");
        }
        indexed.erase(found);
      }
    }
    for (const auto& [digest, row] : indexed) {
      problem(folder_ / kIndexName,
              std::string(kind) + Hex(digest) + " is indexed, but has no sound file");
    }
  };
  std::map<Digest, EntryRow> indexed;
  for (EntryRow row : picture.entries) {
    row.hits = 0;  // known to the index alone
    row.last_access_us = 0;
    indexed[row.id] = std::move(row);
  }
  compare("block ", picture.blocks, blocks);
  compare("entry ", indexed, entries);
  if (set_aside && !read_only_ && report.problems.size() > problems) {
    try {
      Rebuild(ListFolder(folder_), /*set_aside=*/true);
    } catch (const Error& e) {
      if (e.kind() != Error::Kind::kCorrupt) throw;
      OpenIndex();  // which replaces what it cannot read
    }
  }
  return report;
}

}  // namespace kvr::cache
