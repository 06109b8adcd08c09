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
constexpr const char* kLookups = "lookups.jsonl";
constexpr const char* kTrace = "trace.jsonl";
constexpr const char* kCache = "sweep-cache";

// Also what is no more than a broken link.
bool Exists(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(fs::symlink_status(path, ignored));
}

UniqueFd OpenToAppend(const fs::path& path) {
  UniqueFd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_NONBLOCK | O_CLOEXEC, 0644));
  if (file.get() < 0) throw IoError("cannot open " + path.string(), errno);
  return file;
}

// By one call where the system takes them whole; durable.
void AppendLines(int file, const std::string& lines, const fs::path& path) {
  for (std::size_t written = 0; written < lines.size();) {
    const ssize_t put = ::write(file, lines.data() + written, lines.size() - written);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) throw IoError("cannot write " + path.string(), errno);
    written += static_cast<std::size_t>(put);
  }
  if (::fdatasync(file) != 0) throw IoError("cannot sync " + path.string(), errno);
}

void DropTornLine(int file, const fs::path& path) {
  const std::string contents = ReadFile(path);
  const std::size_t end = contents.rfind('\n');
  const std::size_t whole = end == std::string::npos ? 0 : end + 1;
  if (whole == contents.size()) return;
  spdlog::warn("{}: the last line was cut off and is left out", path.string());
  if (::ftruncate(file, static_cast<off_t>(whole)) != 0) {
    throw IoError("cannot truncate " + path.string(), errno);
  }
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
  for (const char* lines : {kCells, kLookups}) {
    std::error_code absent;
    if (fs::file_size(folder / lines, absent) > 0 && !absent) {
      throw InvalidInput(
          folder.string() + " holds " + lines +
          " but no run.json, so nobody knows what run its lines are of; choose another folder");
    }
  }
  if (Exists(folder / kCache)) {
    throw InvalidInput((folder / kCache).string() +
                       " is there already and is not this run's; a sweep fills a cache of its own");
  }
}

RunFolder::RunFolder(fs::path folder) : path_(std::move(folder)) {
  CreateFolders(path_);
  cells_file_ = OpenToAppend(cells());
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
    const std::string name = file.filename().string();
    if (name.starts_with("run.json.tmp-") || name.starts_with("trace.jsonl.tmp-")) {
      fs::remove(file, ignored);
    }
  }
}

bool RunFolder::HoldsRun() const { return Exists(description()); }

void RunFolder::Write(const Run& run) const {
  WriteAndRename(description(),
                 ToJson(run).dump(1, ' ', false, Json::error_handler_t::replace) + "\n");
  SyncFolder(path_);
}

void RunFolder::DropTornLines() const {
  DropTornLine(cells_file_.get(), cells());
  if (!Exists(lookups())) return;
  const UniqueFd file = OpenToAppend(lookups());
  DropTornLine(file.get(), lookups());
}

void RunFolder::Write(const std::vector<TraceRow>& trace) const {
  std::string lines;
  for (const TraceRow& row : trace) lines += DumpLine(ToJson(row)) + "\n";
  WriteAndRename(path_ / kTrace, lines);
  SyncFolder(path_);
}

void RunFolder::Append(std::span<const Cell> cells_to_add) const {
  std::string lines;
  for (const Cell& cell : cells_to_add) lines += DumpLine(ToJson(cell)) + "\n";
  AppendLines(cells_file_.get(), lines, cells());
}

void RunFolder::Append(const Lookup& lookup) const {
  const bool fresh = !Exists(lookups());
  const UniqueFd file = OpenToAppend(lookups());
  AppendLines(file.get(), DumpLine(ToJson(lookup)) + "\n", lookups());
  if (fresh) SyncFolder(path_);
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
fs::path RunFolder::lookups() const { return path_ / kLookups; }
fs::path RunFolder::cache() const { return path_ / kCache; }

}  // namespace kvr::record
