#include "layout.h"

#include <algorithm>

#include "kvr/base/text_table.h"
#include "kvr/base/utf8.h"

namespace kvr::report {

namespace {

// How many bytes of what `text` begins with no line may hold: 0 where it may hold all.
std::size_t Unprintable(std::string_view text) {
  const auto byte = [&](std::size_t n) {
    return n < text.size() ? static_cast<unsigned char>(text[n]) : 0u;
  };
  if (byte(0) < 0x20 || byte(0) == 0x7F) return 1;
  if (byte(0) == 0xC2 && byte(1) < 0xA0) return 2;
  if (byte(0) == 0xD8 && byte(1) == 0x9C) return 2;  // U+061C, a mark of direction
  if (byte(0) == 0xE2 && byte(1) == 0x80) {          // likewise U+200E, 200F; line ends; embeddings
    if ((byte(2) | 1) == 0x8F || (byte(2) >= 0xA8 && byte(2) <= 0xAE)) return 3;
  }
  if (byte(0) == 0xE2 && byte(1) == 0x81 && byte(2) >= 0xA6 && byte(2) <= 0xA9) return 3;
  if (byte(0) == 0xEF && byte(1) == 0xBF && byte(2) >= 0xBE) return 3;  // no characters: XML
  return 0;
}

}  // namespace

std::string OneLine(const std::string& raw) {
  const std::string text = SanitizeUtf8(raw).text;
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const std::size_t bad = Unprintable(std::string_view(text).substr(i));
    out += bad > 0 ? ' ' : text[i];
    if (bad > 1) i += bad - 1;
  }
  return out;
}

std::string Escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string Cut(const std::string& text, std::size_t width) {
  std::string out = OneLine(text);
  if (TextWidth(out) <= width) return out;
  std::size_t bytes = 0;
  for (std::size_t seen = 0; bytes < out.size(); ++bytes) {
    if ((out[bytes] & 0xC0) != 0x80 && ++seen == width) break;
  }
  return out.substr(0, bytes) + "…";
}

std::string Wrapped(std::string_view text, std::size_t width) {
  std::string out;
  std::size_t column = 0;
  while (!text.empty()) {
    const std::size_t space = std::min(text.find(' '), text.size());
    const std::string_view word = text.substr(0, space);
    text.remove_prefix(std::min(space + 1, text.size()));
    if (column > 0 && column + 1 + TextWidth(word) > width) {
      out += '\n';
      column = 0;
    } else if (column > 0) {
      out += ' ';
      ++column;
    }
    out += word;
    column += TextWidth(word);
  }
  return out + '\n';
}

std::string Joined(const std::vector<std::string>& parts, const char* separator) {
  std::string out;
  for (std::size_t i = 0; i < parts.size(); ++i)
    out.append(i == 0 ? "" : separator).append(parts[i]);
  return out;
}

}  // namespace kvr::report
