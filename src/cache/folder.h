// Private to the cache layer: one store's folder as names, nothing of it opened.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <map>
#include <vector>

#include "kvr/base/hash.h"

namespace kvr::cache {

inline constexpr char kSuffix[] = ".safetensors";
inline constexpr char kIndexName[] = "index.sqlite";

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

// Waits for LOCK_EX or LOCK_SH on an open lock file; closing it gives the lock back. Throws
// kResource after `timeout_ms`, kInterrupted, kIo.
void WaitForLock(int fd, int kind, const std::filesystem::path& folder, int timeout_ms);

}  // namespace kvr::cache
