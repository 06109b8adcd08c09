// The lines of a run's JSONL files.
#pragma once

#include <spdlog/fmt/fmt.h>

#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "kvr/base/error.h"
#include "kvr/base/file.h"
#include "kvr/base/json.h"

namespace kvr::record {

// Calls `add` with each line's object, its place and its number, from 1. A last line without its
// newline that is not JSON was cut off by a crash: it is left out with a warning that calls it a
// `what`. Throws kCorrupt for any other that is not JSON, and as `add` does.
template <typename Add>
void ForEachLine(const std::filesystem::path& path, const char* what,
                 std::vector<std::string>* warnings, Add add) {
  const std::string contents = ReadFile(path);
  std::size_t number = 0;
  for (std::size_t begin = 0; begin < contents.size();) {
    const std::size_t newline = contents.find('\n', begin);
    const bool whole = newline != std::string::npos;
    const std::string_view line =
        std::string_view(contents).substr(begin, whole ? newline - begin : std::string::npos);
    begin = whole ? newline + 1 : contents.size();
    const std::string where = path.string() + ":" + std::to_string(++number);
    Json json;
    try {
      json = ParseJson(line, where);
    } catch (const Error& error) {
      if (whole) throw Corrupt(error.what());
      warnings->push_back(fmt::format(
          "{}: the last line is cut off ({} bytes) and was left out; its {} did not finish", where,
          line.size(), what));
      return;
    }
    add(json, where, number);
  }
}

}  // namespace kvr::record
