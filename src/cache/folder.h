// Private to the cache layer: one store's folder as names, nothing of it opened.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <vector>

#include "kvr/base/hash.h"

namespace kvr::cache {

inline constexpr char kSuffix[] = ".safetensors";
inline constexpr char kKeyName[] = "key.json";
inline constexpr char kLockName[] = "lock";
inline constexpr char kIndexName[] = "index.sqlite";
inline constexpr char kJournalName[] = "index.sqlite-journal";

struct FolderFiles {
  std::map<Digest, std::filesystem::path> blocks;
  std::map<Digest, std::filesystem::path> entries;
  std::vector<std::filesystem::path> leftovers;  // temporary files
  std::vector<std::filesystem::path> quarantine;
  std::vector<std::filesystem::path> foreign;
};

// Throws kIo.
[[nodiscard]] FolderFiles ListFolder(const std::filesystem::path& folder);

// The file's type bits (S_IFMT), not followed where it is a link, or 0 when there is no such file.
[[nodiscard]] mode_t TypeOf(const std::filesystem::path& path);

// What is gone already is no failure. Throws kIo.
void Unlink(const std::filesystem::path& path);

// Unlinks the files and then syncs each folder that they were in. Needs no space. Returns the bytes
// that they had. Throws kIo; what was unlinked before stays so.
std::uint64_t UnlinkAndSync(const std::vector<std::filesystem::path>& files);

// Tells a file from another that has taken its name; 0 when there is none.
[[nodiscard]] std::uint64_t InodeOf(const std::filesystem::path& path);
[[nodiscard]] std::uint64_t InodeOf(int fd);

}  // namespace kvr::cache
