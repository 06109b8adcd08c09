// Private to the cache layer: a folder's lock file, by which writers take turns.
#pragma once

#include <filesystem>

#include "kvr/base/file.h"

namespace kvr::cache {

// Opens the lock file for a writer, creating it if absent; -1, with errno set, where that fails.
[[nodiscard]] UniqueFd OpenLock(const std::filesystem::path& folder);

// Waits for LOCK_EX or LOCK_SH on an open lock file; closing it gives the lock back. Throws
// kResource after `timeout_ms`, kInterrupted, kIo.
void WaitForLock(int fd, int kind, const std::filesystem::path& folder, int timeout_ms);

}  // namespace kvr::cache
