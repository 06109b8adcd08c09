// A run kept in one small file, for a repository: what a comparison needs of it
// (docs/results_format.md, "The kept file").
//
// Thread safety: functions of their arguments and files.
#pragma once

#include <filesystem>
#include <string>

#include "kvr/record/run.h"

namespace kvr::record {

// Version of the kept file.
inline constexpr int kKeptSchema = 1;

// The file's text: of the run what a comparison reads, each cell a line. Times are rounded to five
// digits. Cost: the cells' JSON.
[[nodiscard]] std::string KeptText(const Run& run);

// Reads it back; `where` names the file in errors and is the run's label. What was not kept is
// empty: texts, likenesses, entries' names, load. Throws kCorrupt naming place and field,
// kIncompatible for a newer version.
[[nodiscard]] Run ReadKeptText(const std::string& text, const std::string& where);

// A run's folder, or a kept file.
[[nodiscard]] Run ReadRunOrKept(const std::filesystem::path& path);

}  // namespace kvr::record
