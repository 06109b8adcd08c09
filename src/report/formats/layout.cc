#include "layout.h"

#include <algorithm>

#include "kvr/base/text_table.h"
#include "kvr/base/utf8.h"

namespace kvr::report {

std::string OneLine(const std::string& raw) {
  const std::string text = SanitizeUtf8(raw).text;
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const std::string_view rest = std::string_view(text).substr(i);
    const auto byte = [&](std::size_t n) {
      return n < rest.size() ? static_cast<unsigned char>(rest[n]) : 0u;
    };
    if (byte(0) < 0x20 || byte(0) == 0x7F) {
      out += ' ';
    } else if (byte(0) == 0xC2 && byte(1) < 0xA0) {
      out += ' ';
      i += 1;
    } else if (byte(0) == 0xE2 && ((byte(1) == 0x80 && byte(2) >= 0xA8 && byte(2) <= 0xAE) ||
                                   (byte(1) == 0x81 && byte(2) >= 0xA6 && byte(2) <= 0xA9))) {
      out += ' ';
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
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
