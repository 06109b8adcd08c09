#include "files.h"

#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "folder.h"
#include "kvr/base/error.h"
#include "kvr/base/file.h"
#include "kvr/cache/entry.h"

namespace kvr::cache {

namespace fs = std::filesystem;

namespace {

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

bool CannotBeWritten(const fs::path& folder) {
  if (TypeOf(folder) != S_IFDIR || ::access(folder.c_str(), W_OK) == 0) return false;
  spdlog::warn("the cache folder {} cannot be written; opening it read-only", folder.string());
  return true;
}

BlockRow RowOf(const Digest& hash, const BlockHeader& header) {
  return {hash, header.parent, static_cast<std::uint32_t>(header.tokens.size()),
          header.data_offset + header.payload_bytes};
}

}  // namespace

Files::Files(const fs::path& cache_dir, const CacheKey& key, bool read_only)
    : key_(key),
      format_(key),
      folder_(cache_dir / Hex(format_.key_hash())),
      read_only_((WarnOfOtherWriters(folder_), read_only || CannotBeWritten(folder_))) {}

fs::path Files::KeyPath() const { return folder_ / kKeyName; }

fs::path Files::IndexPath() const { return folder_ / kIndexName; }

fs::path Files::BlockPath(const Digest& hash) const {
  const std::string hex = Hex(hash);
  return folder_ / "blocks" / hex.substr(0, 2) / (hex + kSuffix);
}

fs::path Files::EntryPath(const Digest& id) const {
  return folder_ / "entries" / (Hex(id) + kSuffix);
}

bool Files::KeyFileStatesKey() const {
  const std::string text = ReadFile(KeyPath(), kMaxKeyBytes);
  if (text == key_.ToJson()) return true;
  (void)CacheKey::FromJson(text, KeyPath().string());  // says what is damaged
  return false;
}

BlockRow Files::ReadBlock(const fs::path& path, const Digest& hash) const {
  const UniqueFd fd = OpenOwnFile(path);
  return RowOf(hash, format_.ReadHeader(fd.get(), path, hash));
}

BlockRow Files::CheckBlock(const fs::path& path, const Digest& hash,
                           std::vector<std::byte>* scratch) const {
  const UniqueFd fd = OpenOwnFile(path);
  const BlockHeader header = format_.ReadHeader(fd.get(), path, hash);
  const auto tokens = static_cast<std::uint32_t>(header.tokens.size());
  scratch->resize(key_.shape.PayloadBytes(tokens));
  format_.ReadPayload(fd.get(), path, header,
                      {scratch->data(), scratch->data() + scratch->size() / 2, tokens}, 0);
  return RowOf(hash, header);
}

EntryRow Files::CheckEntry(const fs::path& path, const Digest& id) const {
  return ReadEntry(path, id, key_hash(), key_.block_tokens);
}

bool Files::SetAside(const fs::path& path, const std::string& why) const {
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

}  // namespace kvr::cache
