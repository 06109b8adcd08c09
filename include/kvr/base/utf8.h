// UTF-8 checking and repair.
//
// Thread safety: functions of their arguments alone. Errors: none. Cost: one pass over the text.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace kvr {

struct Sanitized {
  std::string text;
  std::size_t replaced = 0;  // ill-formed sequences that became U+FFFD
};

// Replaces each maximal ill-formed subsequence by U+FFFD, as Unicode recommends (The Unicode
// Standard, 3.9, table 3-7) and Python's errors="replace" does.
[[nodiscard]] Sanitized SanitizeUtf8(std::string_view bytes);

[[nodiscard]] bool IsValidUtf8(std::string_view bytes);

// How many bytes at the end of `bytes` are the beginning of a character that further bytes could
// still complete: 0 to 3.
[[nodiscard]] std::size_t UnfinishedTail(std::string_view bytes);

}  // namespace kvr
