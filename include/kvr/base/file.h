// Files as this program needs them: whole, scattered and mapped reads, durable writes.
// Every function throws Error (kIo, kNotFound or kResource) naming the path.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace kvr {

// Owns a file descriptor.
class UniqueFd {
 public:
  explicit UniqueFd(int fd = -1) : fd_(fd) {}
  ~UniqueFd();
  UniqueFd(UniqueFd&& other) noexcept : fd_(other.fd_) { other.fd_ = -1; }
  UniqueFd& operator=(UniqueFd&& other) noexcept;
  [[nodiscard]] int get() const { return fd_; }

 private:
  int fd_;
};

// Opens for reading (O_CLOEXEC).
[[nodiscard]] UniqueFd OpenForRead(const std::filesystem::path& path);
[[nodiscard]] std::uint64_t FileSize(int fd, const std::filesystem::path& path);

[[nodiscard]] std::string ReadFile(const std::filesystem::path& path);

// Reads until every span of `parts` is full, starting at `offset`; short reads and EINTR are
// continued. Throws kCorrupt when the file ends first. `parts` may be longer than IOV_MAX and is
// modified. Cost: ceil(parts / IOV_MAX) system calls when none comes back short.
void ReadScattered(int fd, std::uint64_t offset, std::span<iovec> parts,
                   const std::filesystem::path& path);

// The first `bytes` of a file, mapped for reading.
class FileMapping {
 public:
  // REQUIRES: bytes > 0. The file may be shorter: then Populate fails.
  FileMapping(int fd, std::uint64_t bytes, const std::filesystem::path& path);
  ~FileMapping();
  FileMapping(const FileMapping&) = delete;
  FileMapping& operator=(const FileMapping&) = delete;

  // The fraction, 0 to 1, of the pages that are in the page cache, by sixteen of them, evenly
  // spread: asking about all takes a tenth of the time to read them. Linux answers truthfully only
  // to a file's owner or who may write it; others see 1.
  [[nodiscard]] double ResidentFraction() const;
  // Has every page mapped. False when one can't be, for an error of the disk or a file cut short:
  // to touch it would end the program. Afterwards that takes what would end it in its own code
  // pages too: a page evicted within moments, and a disk that can't bring it back.
  [[nodiscard]] bool Populate() const;
  [[nodiscard]] std::span<const std::byte> bytes() const { return bytes_; }

 private:
  std::span<std::byte> bytes_;
  std::filesystem::path path_;
};

// Writes `parts` one after the other, by one call where it takes them, to a new file beside `path`,
// syncs it, and renames it to `path`. A reader sees the old file or the whole new one. Not durable
// until the folder is synced: see SyncFolder. On an exception nothing is left behind.
void WriteAndRename(const std::filesystem::path& path,
                    std::span<const std::span<const std::byte>> parts);
void WriteAndRename(const std::filesystem::path& path, std::string_view contents);

// fsync of a folder: makes renames and new names in it durable.
void SyncFolder(const std::filesystem::path& folder);

// Creates the folder (mode 0700 for each new level) if absent. The parent of each new folder is
// synced, so that files made durable inside it stay reachable.
void CreateFolders(const std::filesystem::path& folder);

}  // namespace kvr
