// Files as this program needs them: whole reads, positioned scattered reads, durable writes.
//
// Thread safety: a UniqueFd belongs to one thread at a time; the functions may be called from any,
// also on one descriptor, since reads name their positions. Errors: every function throws Error
// (kIo, kNotFound or kResource) naming the path. Cost: system calls; writing waits for the disk.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
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
// The same for a file that this program made: a link in its place is refused.
[[nodiscard]] UniqueFd OpenOwnFile(const std::filesystem::path& path);
[[nodiscard]] std::uint64_t FileSize(int fd, const std::filesystem::path& path);

[[nodiscard]] std::string ReadFile(const std::filesystem::path& path);
// Throws kCorrupt, before anything is read, for a file of more than `most_bytes`.
[[nodiscard]] std::string ReadFile(const std::filesystem::path& path, std::uint64_t most_bytes);

// Reads until every span of `parts` is full, starting at `offset`; short reads and EINTR are
// continued. Throws kCorrupt when the file ends first. `parts` may be longer than IOV_MAX and is
// modified. Cost: ceil(parts / IOV_MAX) system calls when none comes back short.
void ReadScattered(int fd, std::uint64_t offset, std::span<iovec> parts,
                   const std::filesystem::path& path);

// The fraction, 0 to 1, of the file's pages that are in the page cache, by sixteen of them, evenly
// spread: asking about all takes a tenth of the time to read them. Absent when the operating system
// can't tell; it tells the truth only to the file's owner or who may write it, others see 1.
[[nodiscard]] std::optional<double> ResidentFraction(int fd, const std::filesystem::path& path);

// Writes `parts` one after the other, by one call where it takes them, to a new file beside `path`,
// mode 0600, syncs it, and renames it to `path`. A reader sees the old file or the whole new one.
// Not durable until the folder is synced: see SyncFolder. On an exception nothing is left behind.
void WriteAndRename(const std::filesystem::path& path,
                    std::span<const std::span<const std::byte>> parts);
void WriteAndRename(const std::filesystem::path& path, std::string_view contents);

// fsync of a folder: makes renames and new names in it durable.
void SyncFolder(const std::filesystem::path& folder);

// Creates the folder (mode 0700 for each new level) if absent. The parent of each new folder is
// synced, so that files made durable inside it stay reachable.
void CreateFolders(const std::filesystem::path& folder);

}  // namespace kvr
