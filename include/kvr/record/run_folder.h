// A run's folder while a sweep writes it: locked, its lines durable, its cache in a place of its
// own.
//
// Thread safety: none. Between processes the lock is cells.jsonl's (flock): it is never renamed,
// and is freed when the process ends, however it ends. Errors: what the file system refuses is
// thrown as in file.h. Cost: what is said to be durable waits for the disk.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "kvr/base/file.h"
#include "kvr/record/run.h"

namespace kvr::record {

// Makes the first folder of `base`/`name`, `base`/`name`-2, ... that nobody has, in one step, so
// that two sweeps never get the same.
[[nodiscard]] std::filesystem::path MakeNewFolder(const std::filesystem::path& base,
                                                  const std::string& name);

// Throws kInvalidInput unless a new run can begin in `folder`, which need not be there: when it
// holds a run, or cells without one, or what would be the run's cache, which is then somebody
// else's.
void CheckFree(const std::filesystem::path& folder);

class RunFolder {
 public:
  // Creates what is absent, takes the lock, and removes what a killed sweep left half written.
  // Throws kResource when another sweep holds the folder.
  explicit RunFolder(std::filesystem::path folder);

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  [[nodiscard]] std::filesystem::path description() const;
  [[nodiscard]] std::filesystem::path cells() const;
  [[nodiscard]] std::filesystem::path lookups() const;
  [[nodiscard]] std::filesystem::path cache() const;
  [[nodiscard]] bool HoldsRun() const;

  // Replaces run.json; durable.
  void Write(const Run& run) const;
  // Cuts off the lines that a killed process did not finish.
  void DropTornLines() const;
  // Replaces trace.jsonl; durable.
  void Write(const std::vector<TraceRow>& trace) const;
  // A line each, all by one call; durable.
  void Append(std::span<const Cell> cells) const;
  void Append(const Lookup& lookup) const;

  // Removes the `subfolders` of the cache's folder, and that when nothing else is in it.
  void RemoveCache(const std::vector<std::string>& subfolders) const;

 private:
  std::filesystem::path path_;
  UniqueFd cells_file_;
};

}  // namespace kvr::record
