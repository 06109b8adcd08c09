#include "kvr/text/special_tokens.h"

#include <spdlog/fmt/fmt.h>
#include <utf8proc.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "kvr/base/error.h"

namespace kvr::text {

namespace {

// Unicode's White_Space property; it has not changed since Unicode 6.3.
bool IsWhiteSpace(utf8proc_int32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

// The bytes of white space at the start of `text`.
std::size_t SpaceAtStart(std::string_view text) {
  std::size_t at = 0;
  while (at < text.size()) {
    utf8proc_int32_t c = 0;
    const auto* bytes = reinterpret_cast<const utf8proc_uint8_t*>(text.data()) + at;
    const utf8proc_ssize_t length =
        utf8proc_iterate(bytes, static_cast<utf8proc_ssize_t>(text.size() - at), &c);
    if (length <= 0 || !IsWhiteSpace(c)) break;
    at += static_cast<std::size_t>(length);
  }
  return at;
}

// The bytes of white space at the end of `text`.
std::size_t SpaceAtEnd(std::string_view text) {
  std::size_t space = 0;
  while (space < text.size()) {
    std::size_t start = text.size() - space - 1;
    while (start > 0 && (static_cast<unsigned char>(text[start]) & 0xC0) == 0x80) --start;
    const std::size_t length = text.size() - space - start;
    if (SpaceAtStart(text.substr(start, length)) != length) break;
    space += length;
  }
  return space;
}

}  // namespace

SpecialTokens::SpecialTokens(const nlohmann::json& list) {
  try {
    for (const nlohmann::json& item : list) {
      entries_.push_back({item.at("text").get<std::string>(), item.at("id").get<Token>(),
                          item.value("lstrip", false), item.value("rstrip", false)});
    }
  } catch (const nlohmann::json::exception& error) {
    throw Corrupt(std::string("tokenizer spec, \"special\": ") + error.what() +
                  "; expected objects with text and id; export the model again");
  }
  std::set<std::string_view> texts;
  std::set<Token> ids;
  for (const Entry& entry : entries_) {
    if (entry.text.empty() || entry.id < 0 || !texts.insert(entry.text).second ||
        !ids.insert(entry.id).second) {
      throw Corrupt(
          fmt::format("tokenizer spec, \"special\": found text '{}' with id {}, expected texts and "
                      "ids that are present, not negative and not repeated",
                      entry.text, entry.id));
    }
    begins_token_[static_cast<unsigned char>(entry.text[0])] = true;
  }
  std::stable_sort(entries_.begin(), entries_.end(),
                   [](const Entry& a, const Entry& b) { return a.text.size() > b.text.size(); });
}

std::vector<Stretch> SpecialTokens::Split(std::string_view text) const {
  std::vector<Stretch> stretches;
  std::size_t done = 0;  // everything before it is in `stretches`
  for (std::size_t at = 0; at < text.size();) {
    const std::string_view rest = text.substr(at);
    const auto token = !begins_token_[static_cast<unsigned char>(rest[0])]
                           ? entries_.end()
                           : std::find_if(entries_.begin(), entries_.end(),
                                          [&](const Entry& e) { return rest.starts_with(e.text); });
    if (token == entries_.end()) {
      ++at;
      continue;
    }
    std::size_t start = at;
    std::size_t stop = at + token->text.size();
    if (token->lstrip) start -= SpaceAtEnd(text.substr(done, start - done));
    if (token->rstrip) stop += SpaceAtStart(text.substr(stop));
    if (start > done) stretches.push_back({text.substr(done, start - done), std::nullopt});
    stretches.push_back({text.substr(start, stop - start), token->id});
    at = done = stop;
  }
  if (done < text.size()) stretches.push_back({text.substr(done), std::nullopt});
  return stretches;
}

std::optional<Token> SpecialTokens::Find(std::string_view text) const {
  for (const Entry& entry : entries_) {
    if (entry.text == text) return entry.id;
  }
  return std::nullopt;
}

}  // namespace kvr::text
