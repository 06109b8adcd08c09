#include "kvr/base/text_table.h"

#include <algorithm>

namespace kvr {

std::size_t TextWidth(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0) != 0x80;  // not a continuation byte
  }));
}

std::string AlignText(std::span<const TextColumn> columns,
                      const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::string> heads;
  std::vector<std::size_t> widths;
  for (std::size_t i = 0; i < columns.size(); ++i) {
    heads.push_back(columns[i].head);
    widths.push_back(TextWidth(columns[i].head));
    for (const auto& row : rows) widths[i] = std::max(widths[i], TextWidth(row.at(i)));
  }
  std::string out;
  const auto add = [&](const std::vector<std::string>& row) {
    std::string line;
    for (std::size_t i = 0; i < columns.size(); ++i) {
      const std::string gap(widths[i] - TextWidth(row[i]), ' ');
      line += (i > 0 ? "  " : "") + (columns[i].right ? gap + row[i] : row[i] + gap);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + '\n';
  };
  add(heads);
  for (const auto& row : rows) add(row);
  return out;
}

}  // namespace kvr
