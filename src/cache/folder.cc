#include "folder.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <optional>
#include <set>
#include <string>

#include "kvr/base/error.h"
#include "kvr/base/file.h"

namespace kvr::cache {

namespace fs = std::filesystem;

mode_t TypeOf(const fs::path& path) {
  struct stat info;
  if (::lstat(path.c_str(), &info) == 0) return info.st_mode & S_IFMT;
  if (errno == ENOENT) return 0;
  throw IoError("cannot look at " + path.string(), errno);
}

namespace {

// The digest in "<64 hex digits>.safetensors", or nothing.
std::optional<Digest> DigestFromName(const fs::path& name) {
  if (name.extension() != kSuffix) return std::nullopt;
  try {
    return DigestFromHex(name.stem().string());
  } catch (const Error&) {
    return std::nullopt;  // the absence of a digest is the answer
  }
}

bool IsTemporary(const fs::path& name) { return name.string().find(".tmp-") != std::string::npos; }

// A range over a folder whose failures are our errors; nothing where there is no folder.
std::vector<fs::directory_entry> EntriesOf(const fs::path& folder) {
  std::error_code error;
  std::vector<fs::directory_entry> entries;
  if (TypeOf(folder) == 0) return entries;
  fs::directory_iterator at(folder, error);
  for (; !error && at != fs::directory_iterator(); at.increment(error)) entries.push_back(*at);
  if (error) throw IoError("cannot list " + folder.string(), error.value());
  return entries;
}

}  // namespace

std::uint64_t InodeOf(const fs::path& path) {
  struct stat info;
  return ::lstat(path.c_str(), &info) == 0 ? info.st_ino : 0;
}

std::uint64_t InodeOf(int fd) {
  struct stat info;
  return ::fstat(fd, &info) == 0 ? info.st_ino : 0;
}

void Unlink(const fs::path& path) {
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) {
    throw IoError("cannot remove " + path.string(), errno);
  }
}

std::uint64_t UnlinkAndSync(const std::vector<fs::path>& files) {
  std::uint64_t bytes = 0;
  std::set<fs::path> folders;
  for (const fs::path& file : files) {
    struct stat info;
    if (::lstat(file.c_str(), &info) == 0) bytes += static_cast<std::uint64_t>(info.st_size);
    Unlink(file);
    folders.insert(file.parent_path());
  }
  for (const fs::path& folder : folders) SyncFolder(folder);
  return bytes;
}

FolderFiles ListFolder(const fs::path& folder) {
  FolderFiles files;
  static const std::set<std::string> kKnown = {"blocks",  "entries",  "quarantine", kKeyName,
                                               kLockName, kIndexName, kJournalName};
  const auto sort = [&](const fs::directory_entry& file, std::map<Digest, fs::path>* known,
                        std::string_view prefix) {
    const fs::path name = file.path().filename();
    const std::optional<Digest> digest = DigestFromName(name);
    if (digest && name.string().starts_with(prefix) && TypeOf(file.path()) == S_IFREG) {
      known->emplace(*digest, file.path());
    } else {
      (IsTemporary(name) ? files.leftovers : files.foreign).push_back(file.path());
    }
  };
  for (const fs::directory_entry& file : EntriesOf(folder)) {
    const fs::path name = file.path().filename();
    if (kKnown.contains(name)) continue;
    (IsTemporary(name) ? files.leftovers : files.foreign).push_back(file.path());
  }
  for (const fs::directory_entry& file : EntriesOf(folder / "quarantine")) {
    files.quarantine.push_back(file.path());
  }
  for (const fs::directory_entry& file : EntriesOf(folder / "entries")) {
    sort(file, &files.entries, "");
  }
  for (const fs::directory_entry& part : EntriesOf(folder / "blocks")) {
    const std::string prefix = part.path().filename();
    if (prefix.size() != 2 || TypeOf(part.path()) != S_IFDIR) {
      files.foreign.push_back(part.path());
      continue;
    }
    for (const fs::directory_entry& file : EntriesOf(part.path())) {
      sort(file, &files.blocks, prefix);
    }
  }
  return files;
}

}  // namespace kvr::cache
