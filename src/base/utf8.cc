#include "kvr/base/utf8.h"

#include <algorithm>
#include <cstdint>

namespace kvr {

namespace {

struct Sequence {
  std::size_t bytes;     // at least 1
  bool well_formed;      // a whole character
  bool could_be_longer;  // the input ends before the character does
};

// The character, or the maximal ill-formed subsequence, at the start of `bytes` (not empty).
Sequence Next(std::string_view bytes) {
  const auto at = [&](std::size_t i) { return static_cast<std::uint8_t>(bytes[i]); };
  const std::uint8_t lead = at(0);
  if (lead < 0x80) return {1, true, false};
  if (lead < 0xC2 || lead > 0xF4) return {1, false, false};
  const std::size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  // The second byte's range is narrower where the first could begin an overlong form, a surrogate
  // or a code point above U+10FFFF.
  const std::uint8_t low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const std::uint8_t high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  for (std::size_t i = 1; i < length; ++i) {
    if (i == bytes.size()) return {i, false, true};
    if (at(i) < (i == 1 ? low : 0x80) || at(i) > (i == 1 ? high : 0xBF)) return {i, false, false};
  }
  return {length, true, false};
}

}  // namespace

Sanitized SanitizeUtf8(std::string_view bytes) {
  Sanitized result;
  result.text.reserve(bytes.size());
  while (!bytes.empty()) {
    const Sequence next = Next(bytes);
    if (next.well_formed) {
      result.text += bytes.substr(0, next.bytes);
    } else {
      result.text += "\xEF\xBF\xBD";  // U+FFFD
      ++result.replaced;
    }
    bytes.remove_prefix(next.bytes);
  }
  return result;
}

bool IsValidUtf8(std::string_view bytes) {
  while (!bytes.empty()) {
    const Sequence next = Next(bytes);
    if (!next.well_formed) return false;
    bytes.remove_prefix(next.bytes);
  }
  return true;
}

std::size_t UnfinishedTail(std::string_view bytes) {
  for (std::size_t tail = std::min<std::size_t>(3, bytes.size()); tail > 0; --tail) {
    const Sequence last = Next(bytes.substr(bytes.size() - tail));
    if (last.could_be_longer && last.bytes == tail) return tail;
  }
  return 0;
}

}  // namespace kvr
