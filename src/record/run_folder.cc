#include "kvr/record/run_folder.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "kvr/base/error.h"

namespace kvr::record {

namespace fs = std::filesystem;

namespace {

constexpr const char* kDescription = "run.json";
constexpr const char* kCells = "cells.jsonl";
constexpr const char* kCache = "sweep-cache";

// Also what is no more than a broken link.
bool Exists(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(fs::symlink_status(path, ignored));
}

}  // namespace

fs::path MakeNewFolder(const fs::path& base, const std::string& name) {
  CreateFolders(base);
  for (int number = 1;; ++number) {
    fs::path folder = base / (number == 1 ? name : name + "-" + std::to_string(number));
    if (::mkdir(folder.c_str(), 0700) == 0) {
      SyncFolder(base);
      return folder;
    }
    if (errno != EEXIST) throw IoError("cannot create folder " + folder.string(), errno);
  }
}

void CheckFree(const fs::path& folder) {
  if (Exists(folder / kDescription)) {
    throw InvalidInput(folder.string() + " holds a run already; --resume goes on with it");
  }
  std::error_code absent;
  if (fs::file_size(folder / kCells, absent) > 0 && !absent) {
    throw InvalidInput(folder.string() +
                       " holds cells.jsonl but no run.json, so nobody knows what run its cells are "
                       "of; choose another folder");
  }
  if (Exists(folder / kCache)) {
    throw InvalidInput((folder / kCache).string() +
                       " is there already and is not this run's; a sweep fills a cache of its own");
  }
}

RunFolder::RunFolder(fs::path folder) : path_(std::move(folder)) {
  CreateFolders(path_);
  cells_file_ = UniqueFd(
      ::open(cells().c_str(), O_WRONLY | O_CREAT | O_APPEND | O_NONBLOCK | O_CLOEXEC, 0644));
  if (cells_file_.get() < 0) throw IoError("cannot open " + cells().string(), errno);
  if (::flock(cells_file_.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) throw IoError("cannot lock " + cells().string(), errno);
    throw Resource("another sweep is running in " + path_.string() +
                   "; wait for its end, or choose another folder");
  }
  std::error_code ignored;
  if (!fs::is_regular_file(fs::symlink_status(cells(), ignored))) {
    throw Error(Error::Kind::kIo, cells().string() + " is not a file");
  }
  SyncFolder(path_);
  for (fs::directory_iterator entry(path_, ignored), end; !ignored && entry != end;
       entry.increment(ignored)) {
    const fs::path file = entry->path();
    if (file.filename().string().starts_with("run.json.tmp-")) fs::remove(file, ignored);
  }
}

bool RunFolder::HoldsRun() const { return Exists(description()); }

void RunFolder::Write(const Run& run) const {
  WriteAndRename(description(),
                 ToJson(run).dump(1, ' ', false, Json::error_handler_t::replace) + "\n");
  SyncFolder(path_);
}

void RunFolder::DropTornLine() const {
  const std::string contents = ReadFile(cells());
  const std::size_t end = contents.rfind('\n');
  const std::size_t whole = end == std::string::npos ? 0 : end + 1;
  if (whole == contents.size()) return;
  spdlog::warn("{}: the last line was cut off and is left out", cells().string());
  if (::ftruncate(cells_file_.get(), static_cast<off_t>(whole)) != 0) {
    throw IoError("cannot truncate " + cells().string(), errno);
  }
}

void RunFolder::Append(std::span<const Cell> cells_to_add) const {
  std::string lines;
  for (const Cell& cell : cells_to_add) lines += DumpLine(ToJson(cell)) + "\n";
  for (std::size_t written = 0; written < lines.size();) {
    const ssize_t put = ::write(cells_file_.get(), lines.data() + written, lines.size() - written);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) throw IoError("cannot write " + cells().string(), errno);
    written += static_cast<std::size_t>(put);
  }
  if (::fdatasync(cells_file_.get()) != 0) throw IoError("cannot sync " + cells().string(), errno);
}

void RunFolder::RemoveCache(const std::vector<std::string>& subfolders) const {
  std::error_code error;
  if (!fs::is_directory(fs::symlink_status(cache(), error))) return;
  for (const std::string& subfolder : subfolders) {
    fs::remove_all(cache() / subfolder, error);
    if (error) spdlog::warn("cannot remove {}: {}", subfolder, error.message());
  }
  if (::rmdir(cache().c_str()) != 0) {
    spdlog::warn("{} is left: it holds what the sweep did not make", cache().string());
  }
}

fs::path RunFolder::description() const { return path_ / kDescription; }
fs::path RunFolder::cells() const { return path_ / kCells; }
fs::path RunFolder::cache() const { return path_ / kCache; }

}  // namespace kvr::record
