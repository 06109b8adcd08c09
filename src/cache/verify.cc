// How a store is verified: every file, then the chains, then the index against the files.
#include <fcntl.h>
#include <spdlog/fmt/fmt.h>
#include <sys/file.h>

#include <optional>

#include "files.h"
#include "folder.h"
#include "kvr/base/error.h"
#include "kvr/cache/store.h"
#include "lock.h"
#include "rebuild.h"
#include "store_writer.h"

namespace kvr::cache {

namespace fs = std::filesystem;

namespace {

class Verification {
 public:
  Verification(const Files& files, bool set_aside) : files_(files), set_aside_(set_aside) {}

  void CheckFiles() {
    const FolderFiles present = ListFolder(files_.folder());
    CheckKey();
    for (const fs::path& path : present.leftovers) Problem(path, "left by an interrupted write");
    for (const fs::path& path : present.foreign) Problem(path, "not a file of this cache; ignored");
    std::vector<std::byte> scratch;
    for (const auto& [hash, path] : present.blocks) {
      Check(path, [&, &hash = hash, &path = path] {
        blocks_[hash] = files_.CheckBlock(path, hash, &scratch);
        report_.bytes += blocks_[hash].file_bytes;
      });
    }
    std::set<Digest> used;
    for (const auto& [id, path] : present.entries) {
      Check(path, [&, &id = id, &path = path] {
        EntryRow row = files_.CheckEntry(path, id);
        CheckChain(path, row);
        used.insert(row.chain.begin(), row.chain.end());
        report_.bytes += row.file_bytes;
        entries_[id] = std::move(row);
      });
    }
    report_.blocks = static_cast<std::uint32_t>(blocks_.size());
    report_.entries = static_cast<std::uint32_t>(entries_.size());
    for (const auto& [hash, row] : blocks_) report_.unused_blocks += used.contains(hash) ? 0 : 1;
  }

  // Returns whether it says what the files say. REQUIRES: CheckFiles.
  bool CheckIndex(Index* index) {
    const std::size_t problems = report_.problems.size();
    IndexPicture picture;
    try {
      picture = index->Load();
    } catch (const Error& e) {
      if (e.kind() != Error::Kind::kCorrupt) throw;
      Problem(files_.IndexPath(), e.what());
    }
    std::map<Digest, EntryRow> indexed;
    for (EntryRow& row : picture.entries) {
      row.hits = 0;  // known to the index alone
      row.last_access_us = 0;
      indexed[row.id] = std::move(row);
    }
    Compare("block", std::move(picture.blocks), blocks_);
    Compare("entry", std::move(indexed), entries_);
    return report_.problems.size() == problems;
  }

  [[nodiscard]] VerifyReport Report() && { return std::move(report_); }

 private:
  void Problem(const fs::path& path, const std::string& what) {
    report_.problems.push_back({path.lexically_relative(files_.folder()).string(), what});
  }

  void CheckKey() {
    try {
      if (!files_.KeyFileStatesKey()) {
        Problem(files_.KeyPath(), "states another cache key than its folder's name");
      }
    } catch (const Error& e) {
      Problem(files_.KeyPath(), e.what());
    }
  }

  template <typename Read>
  void Check(const fs::path& path, const Read& read) {
    try {
      read();
    } catch (const Error& e) {
      if (e.kind() != Error::Kind::kCorrupt && e.kind() != Error::Kind::kNotFound) throw;
      Problem(path, e.what());
      if (set_aside_ && e.kind() == Error::Kind::kCorrupt && files_.SetAside(path, e.what())) {
        ++report_.set_aside;
      }
    }
  }

  void CheckChain(const fs::path& path, const EntryRow& row) {
    for (std::size_t i = 0; i < row.chain.size(); ++i) {
      if (blocks_.contains(row.chain[i])) continue;
      Problem(path, fmt::format("block {} of {}, {}, is missing or damaged", i + 1,
                                row.chain.size(), Hex(row.chain[i])));
    }
  }

  template <typename Row>
  void Compare(const char* kind, std::map<Digest, Row> indexed,
               const std::map<Digest, Row>& sound) {
    const auto problem = [&](const Digest& digest, const char* what) {
      Problem(files_.IndexPath(), fmt::format("{} {} is {}", kind, Hex(digest), what));
    };
    for (const auto& [digest, row] : sound) {
      const auto found = indexed.find(digest);
      if (found == indexed.end()) {
        problem(digest, "not indexed");
      } else {
        if (!(found->second == row)) problem(digest, "indexed wrongly");
        indexed.erase(found);
      }
    }
    for (const auto& [digest, row] : indexed) {
      problem(digest, "indexed, but has no sound file");
    }
  }

  const Files& files_;
  const bool set_aside_;
  VerifyReport report_;
  std::map<Digest, BlockRow> blocks_;  // sound ones
  std::map<Digest, EntryRow> entries_;
};

}  // namespace

VerifyReport Store::Verify(bool set_aside) {
  std::optional<Writer> writer;  // other writers' unfinished work would look like damage
  std::unique_lock<std::mutex> guard(mutex_, std::defer_lock);
  UniqueFd shared;
  const fs::path& folder = files_->folder();
  if (read_only()) {
    guard.lock();
    shared = UniqueFd(::open((folder / kLockName).c_str(), O_RDONLY | O_CLOEXEC));
    if (shared.get() >= 0) WaitForLock(shared.get(), LOCK_SH, folder, options_.lock_timeout_ms);
  } else {
    writer.emplace(this, options_.lock_timeout_ms);
  }
  Verification verification(*files_, set_aside);
  verification.CheckFiles();
  if (!verification.CheckIndex(index_.get()) && set_aside && !read_only()) {
    try {
      cache::RebuildIndex(index_.get(), *files_, ListFolder(folder), /*set_aside=*/true);
    } catch (const Error& e) {
      if (e.kind() != Error::Kind::kCorrupt) throw;
      OpenIndex();  // which replaces what it cannot read
    }
  }
  return std::move(verification).Report();
}

}  // namespace kvr::cache
