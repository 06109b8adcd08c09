#include "markup.h"

#include <algorithm>

#include "../formats/layout.h"
#include "kvr/base/hash.h"

namespace kvr::report {
namespace {

// Standard base64 with padding (RFC 4648, 4).
std::string Base64(std::span<const std::uint8_t> bytes) {
  constexpr std::string_view digits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const std::size_t here = std::min<std::size_t>(3, bytes.size() - i);
    std::uint32_t group = 0;
    for (std::size_t k = 0; k < 3; ++k) group = group << 8 | (k < here ? bytes[i + k] : 0u);
    for (std::size_t k = 0; k < 4; ++k) {
      out += k <= here ? digits[group >> (18 - 6 * k) & 63] : '=';
    }
  }
  return out;
}

}  // namespace

std::string HtmlText(std::string_view text) {
  std::string out;
  while (true) {
    const std::size_t end = std::min(text.find_first_of("\n\t"), text.size());
    out += Escaped(OneLine(std::string(text.substr(0, end))));
    if (end == text.size()) return out;
    out += text[end];
    text.remove_prefix(end + 1);
  }
}

std::string JsonForScript(const Json& json) {
  // In a JSON text these bytes stand in strings only.
  std::string out;
  const std::string text = DumpLine(json);
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '<') {
      out += "\\u003c";
    } else if (text.compare(i, 3, "\xE2\x80\xA8") == 0 || text.compare(i, 3, "\xE2\x80\xA9") == 0) {
      out += text[i + 2] == '\xA8' ? "\\u2028" : "\\u2029";
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

std::string HtmlTable(const std::vector<std::string>& heads, const std::vector<bool>& right,
                      const std::vector<std::vector<std::string>>& rows) {
  std::string out = "<div class=\"box\" tabindex=\"0\"><table>\n<thead><tr>";
  const auto cell = [&](const char* element, std::size_t column, const std::string& text) {
    out += std::string("<") + element + (right[column] ? " class=\"n\">" : ">") +
           (text.empty() ? "" : "<bdi>" + HtmlText(text) + "</bdi>") + "</" + element + ">";
  };
  for (std::size_t i = 0; i < heads.size(); ++i) cell("th", i, heads[i]);
  out += "</tr></thead>\n<tbody>\n";
  for (const auto& row : rows) {
    out += "<tr>";
    for (std::size_t i = 0; i < row.size(); ++i) cell("td", i, row[i]);
    out += "</tr>\n";
  }
  return out + "</tbody></table></div>\n";
}

std::string HtmlTable(const Table& table) {
  Grid grid = GridOf(table, [](const std::string& text) { return text; });
  const std::vector<std::string> heads = std::move(grid.lines.front());
  grid.lines.erase(grid.lines.begin());
  return HtmlTable(heads, grid.right, grid.lines);
}

std::string PolicyHash(std::string_view script) {
  const Digest digest = Sha256Of(script);
  return "sha256-" + Base64(digest);
}

}  // namespace kvr::report
