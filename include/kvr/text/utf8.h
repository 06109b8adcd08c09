// UTF-8 repair.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace kvr::text {

struct Sanitized {
  std::string text;
  std::size_t replaced = 0;  // ill-formed sequences that became U+FFFD
};

// Replaces each maximal ill-formed subsequence by U+FFFD, as Unicode recommends (and Python's
// errors="replace" does).
[[nodiscard]] Sanitized SanitizeUtf8(std::string_view bytes);

}  // namespace kvr::text
