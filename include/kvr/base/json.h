// JSON as people write it: comments allowed, errors that name the place.
//
// Thread safety: functions of their arguments alone. Errors: parsing throws, the rest does not.
// Cost: a pass over the text; NearMiss compares with every word allowed.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace kvr {

using Json = nlohmann::json;

// Parses `text`; // and /* */ comments are skipped. Throws kInvalidInput naming `where` and, from
// the parser, the line and column; also for nesting more than 64 deep and for a key that an object
// has twice.
[[nodiscard]] Json ParseJson(std::string_view text, const std::string& where);
[[nodiscard]] Json ReadJsonFile(const std::filesystem::path& path);

// One line of JSON; bytes that are not UTF-8 become U+FFFD.
[[nodiscard]] std::string DumpLine(const Json& json);

// For messages: at most about `most` bytes of `text`, "..." behind them where some are left out,
// and spaces in place of control characters.
[[nodiscard]] std::string Shortened(std::string_view text, std::size_t most);

// The member of `allowed` that `word` was probably meant to be: at most two edits away, or half
// of its length. Empty when nothing is near.
[[nodiscard]] std::string NearMiss(std::string_view word, const std::vector<std::string>& allowed);

}  // namespace kvr
