#include "kvr/base/file.h"

#include <fcntl.h>
#include <spdlog/fmt/fmt.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <climits>
#include <cstring>
#include <vector>

#include "kvr/base/error.h"

namespace kvr {

namespace fs = std::filesystem;

namespace {

// What is left of `parts` without the first `bytes` and without empty parts in front.
std::span<iovec> WithoutFirst(std::span<iovec> parts, std::size_t bytes) {
  while (!parts.empty()) {
    iovec& part = parts.front();
    const std::size_t used = std::min(bytes, part.iov_len);
    part.iov_base = static_cast<char*>(part.iov_base) + used;
    part.iov_len -= used;
    bytes -= used;
    if (part.iov_len > 0) break;
    parts = parts.subspan(1);
  }
  return parts;
}

}  // namespace

UniqueFd::~UniqueFd() {
  if (fd_ >= 0) ::close(fd_);
}

UniqueFd& UniqueFd::operator=(UniqueFd&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

UniqueFd OpenForRead(const fs::path& path) {
  // Non-blocking: what is no regular file is refused later, and may have no writer.
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (fd.get() < 0) throw IoError("cannot open " + path.string(), errno);
  return fd;
}

UniqueFd OpenOwnFile(const fs::path& path) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (fd.get() < 0) throw IoError("cannot open " + path.string(), errno);
  return fd;
}

std::uint64_t FileSize(int fd, const fs::path& path) {
  struct stat info;
  if (::fstat(fd, &info) != 0) throw IoError("cannot stat " + path.string(), errno);
  if (!S_ISREG(info.st_mode)) throw Error(Error::Kind::kIo, path.string() + " is not a file");
  return static_cast<std::uint64_t>(info.st_size);
}

std::string ReadFile(const fs::path& path) { return ReadFile(path, UINT64_MAX); }

std::string ReadFile(const fs::path& path, std::uint64_t most_bytes) {
  const UniqueFd fd = OpenForRead(path);
  const std::uint64_t bytes = FileSize(fd.get(), path);
  if (bytes > most_bytes) {
    throw Corrupt(
        fmt::format("{} has {} bytes, expected at most {}", path.string(), bytes, most_bytes));
  }
  std::string contents(bytes, '\0');
  iovec part{contents.data(), contents.size()};
  ReadScattered(fd.get(), 0, {&part, 1}, path);
  return contents;
}

void ReadScattered(int fd, std::uint64_t offset, std::span<iovec> parts, const fs::path& path) {
  for (parts = WithoutFirst(parts, 0); !parts.empty();) {
    const auto count = static_cast<int>(std::min<std::size_t>(parts.size(), IOV_MAX));
    const ssize_t got = ::preadv(fd, parts.data(), count, static_cast<off_t>(offset));
    if (got < 0) {
      if (errno == EINTR) continue;
      throw IoError("cannot read " + path.string(), errno);
    }
    if (got == 0) {
      throw Corrupt(
          fmt::format("{} ends at byte {}, before its contents do", path.string(), offset));
    }
    offset += static_cast<std::uint64_t>(got);
    parts = WithoutFirst(parts, static_cast<std::size_t>(got));
  }
}

std::optional<double> ResidentFraction(int fd, const fs::path& path) {
  const std::uint64_t bytes = FileSize(fd, path);
  if (bytes == 0) return std::nullopt;
  // The mapping is only asked about, never read: a file cut short meanwhile cannot hurt.
  void* const map = ::mmap(nullptr, bytes, PROT_READ, MAP_SHARED, fd, 0);
  if (map == MAP_FAILED) return std::nullopt;
  const auto page_bytes = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  const std::uint64_t pages = (bytes + page_bytes - 1) / page_bytes;
  const std::uint64_t asked = std::min<std::uint64_t>(pages, 16);
  std::uint64_t resident = 0;
  bool told = true;
  for (std::uint64_t i = 0; i < asked && told; ++i) {
    unsigned char flags = 0;
    std::byte* const page = static_cast<std::byte*>(map) + pages * i / asked * page_bytes;
    told = ::mincore(page, 1, &flags) == 0;
    resident += flags & 1;
  }
  ::munmap(map, bytes);
  if (!told) return std::nullopt;
  return static_cast<double>(resident) / static_cast<double>(asked);
}

void WriteAndRename(const fs::path& path, std::span<const std::span<const std::byte>> parts) {
  // The process id and a counter keep writers of one file apart.
  static std::atomic<unsigned> counter{0};
  const fs::path temporary =
      fmt::format("{}.tmp-{}-{}", path.string(), ::getpid(), counter.fetch_add(1));
  const UniqueFd fd(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (fd.get() < 0) throw IoError("cannot create " + temporary.string(), errno);
  try {
    std::vector<iovec> left;
    for (const std::span<const std::byte> part : parts) {
      left.push_back({const_cast<std::byte*>(part.data()), part.size()});
    }
    for (std::span<iovec> rest = left; !rest.empty();) {
      const auto count = static_cast<int>(std::min<std::size_t>(rest.size(), IOV_MAX));
      const ssize_t put = ::writev(fd.get(), rest.data(), count);
      if (put < 0 && errno != EINTR) throw IoError("cannot write " + path.string(), errno);
      rest = WithoutFirst(rest, static_cast<std::size_t>(std::max<ssize_t>(put, 0)));
    }
    if (::fsync(fd.get()) != 0) throw IoError("cannot sync " + path.string(), errno);
    if (::rename(temporary.c_str(), path.c_str()) != 0) {
      throw IoError("cannot rename to " + path.string(), errno);
    }
  } catch (...) {
    ::unlink(temporary.c_str());
    throw;
  }
}

void WriteAndRename(const fs::path& path, std::string_view contents) {
  const auto bytes = std::as_bytes(std::span(contents.data(), contents.size()));
  WriteAndRename(path, {&bytes, 1});
}

void SyncFolder(const fs::path& folder) {
  const UniqueFd fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (fd.get() < 0) throw IoError("cannot open folder " + folder.string(), errno);
  if (::fsync(fd.get()) != 0) throw IoError("cannot sync folder " + folder.string(), errno);
}

void CreateFolders(const fs::path& folder) {
  std::error_code ignored;  // what can't be looked at can't be created either, below
  if (folder.empty() || fs::is_directory(folder, ignored)) return;
  const fs::path parent = folder.parent_path();
  CreateFolders(parent);
  if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) {
    // Whatever the reason, ENOENT too: the place can't be written.
    throw Error(errno == ENOSPC || errno == EDQUOT ? Error::Kind::kResource : Error::Kind::kIo,
                "cannot create folder " + folder.string() + ": " + std::strerror(errno));
  }
  if (!fs::is_directory(folder, ignored)) {
    throw Error(Error::Kind::kIo, folder.string() + " exists and is not a folder");
  }
  SyncFolder(parent.empty() ? fs::path(".") : parent);
}

}  // namespace kvr
