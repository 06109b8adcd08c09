#include "lock.h"

#include <fcntl.h>
#include <spdlog/fmt/fmt.h>
#include <sys/file.h>

#include <cerrno>
#include <chrono>
#include <thread>

#include "folder.h"
#include "kvr/base/error.h"
#include "kvr/base/interrupt.h"

namespace kvr::cache {

namespace fs = std::filesystem;

UniqueFd OpenLock(const fs::path& folder) {
  return UniqueFd(
      ::open((folder / kLockName).c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
}

void WaitForLock(int fd, int kind, const fs::path& folder, int timeout_ms) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(timeout_ms);
  while (::flock(fd, kind | LOCK_NB) != 0) {
    if (errno == EINTR) continue;
    if (errno != EWOULDBLOCK) throw IoError("cannot lock " + folder.string(), errno);
    ThrowIfInterrupted();
    if (std::chrono::steady_clock::now() >= deadline) {
      throw Resource(fmt::format(
          "another process has kept the cache {} locked for {} ms; wait for it or end it",
          folder.string(), timeout_ms));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
}

}  // namespace kvr::cache
