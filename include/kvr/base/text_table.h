// Tables of text for a screen or a log: the one place that aligns columns.
//
// Thread safety: functions of their arguments alone. Errors: none but std::bad_alloc. Cost: two
// passes over the text.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace kvr {

struct TextColumn {
  std::string head;
  bool right = true;  // aligned to the right, as numbers are
};

// How many columns of a screen `text` takes, each code point counted as one. REQUIRES: UTF-8
// without control characters.
[[nodiscard]] std::size_t TextWidth(std::string_view text);

// The heads' line and a line for each of `rows`, each ended by a newline: columns aligned by
// TextWidth, two spaces apart, no spaces at a line's end. REQUIRES: each row is as long as
// `columns`.
[[nodiscard]] std::string AlignText(std::span<const TextColumn> columns,
                                    const std::vector<std::vector<std::string>>& rows);

}  // namespace kvr
