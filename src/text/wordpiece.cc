#include "kvr/text/wordpiece.h"

#include <spdlog/fmt/fmt.h>
#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "kvr/base/error.h"
#include "kvr/base/utf8.h"

namespace kvr::text {

namespace {

constexpr std::string_view kContinuation = "##";

const nlohmann::json& SpecialList(const nlohmann::json& spec) {
  if (!spec.is_object() || !spec.contains("special")) {
    throw Corrupt("tokenizer spec: no \"special\"; export the model again");
  }
  return spec["special"];
}

void AppendUtf8(utf8proc_int32_t code_point, std::string& out) {
  std::array<utf8proc_uint8_t, 4> bytes{};
  const utf8proc_ssize_t length = utf8proc_encode_char(code_point, bytes.data());
  out.append(reinterpret_cast<const char*>(bytes.data()), static_cast<std::size_t>(length));
}

// Calls `visit` with each code point. REQUIRES: `text` is valid UTF-8.
template <typename F>
void ForEachCodePoint(std::string_view text, F visit) {
  const auto* bytes = reinterpret_cast<const utf8proc_uint8_t*>(text.data());
  for (std::size_t at = 0; at < text.size();) {
    utf8proc_int32_t c = 0;
    at += static_cast<std::size_t>(
        utf8proc_iterate(bytes + at, static_cast<utf8proc_ssize_t>(text.size() - at), &c));
    visit(c);
  }
}

// Canonical decomposition (NFD). utf8proc_decompose would do, but for its ordering of combining
// marks, which takes quadratic time in their number: minutes for 400 kB of nothing else.
void Decompose(std::vector<utf8proc_int32_t>& text) {
  std::vector<utf8proc_int32_t> result;
  result.reserve(text.size());
  for (const utf8proc_int32_t c : text) {
    std::array<utf8proc_int32_t, 8> parts{};  // Unicode's longest canonical decomposition has 4
    int boundary = 0;
    const utf8proc_ssize_t count =
        utf8proc_decompose_char(c, parts.data(), static_cast<utf8proc_ssize_t>(parts.size()),
                                UTF8PROC_DECOMPOSE, &boundary);
    if (count < 0 || count > static_cast<utf8proc_ssize_t>(parts.size())) {
      throw InvalidInput(fmt::format("U+{:04X} can't be decomposed", c));
    }
    result.insert(result.end(), parts.begin(), parts.begin() + count);
  }
  const auto combining = [](utf8proc_int32_t c) {
    return utf8proc_get_property(c)->combining_class;
  };
  const auto is_starter = [&](utf8proc_int32_t c) { return combining(c) == 0; };
  for (auto run = result.begin(); run != result.end();) {
    run = std::find_if_not(run, result.end(), is_starter);
    const auto end = std::find_if(run, result.end(), is_starter);
    std::stable_sort(run, end, [&](auto x, auto y) { return combining(x) < combining(y); });
    run = end;
  }
  text = std::move(result);
}

}  // namespace

CodePoints::CodePoints(const nlohmann::json& ranges, const std::string& name) {
  const auto bad = [&](const std::string& found) {
    return Corrupt("tokenizer spec, class \"" + name + "\": " + found +
                   "; expected ascending [first, last, first, last, ...]; export the model again");
  };
  try {
    bounds_ = ranges.get<std::vector<std::int32_t>>();
  } catch (const nlohmann::json::exception& error) {
    throw bad(error.what());
  }
  if (bounds_.size() % 2 != 0) throw bad(fmt::format("found {} numbers", bounds_.size()));
  std::int32_t least = 0;
  for (std::size_t i = 0; i < bounds_.size(); i += 2) {
    const std::int32_t first = bounds_[i], last = bounds_[i + 1];
    if (first < least || last < first || last > 0x10FFFF) {
      throw bad(fmt::format("found {}, {}", first, last));
    }
    least = ++bounds_[i + 1];
  }
}

bool CodePoints::Contains(std::int32_t code_point) const {
  const auto after = std::upper_bound(bounds_.begin(), bounds_.end(), code_point);
  return (after - bounds_.begin()) % 2 == 1;
}

WordPiece::WordPiece(const nlohmann::json& spec, std::string_view vocab)
    : special_(SpecialList(spec)) {
  std::size_t vocab_size = 0;
  try {
    if (const auto kind = spec.at("kind").get<std::string>(); kind != "wordpiece") {
      throw Corrupt("tokenizer spec, \"kind\": found '" + kind +
                    "', expected 'wordpiece'; is this a language model's archive?");
    }
    vocab_size = spec.at("vocab_size").get<std::size_t>();
    unknown_ = spec.at("unknown_id").get<Token>();
    cls_ = spec.at("cls_id").get<Token>();
    sep_ = spec.at("sep_id").get<Token>();
    lowercase_ = spec.at("lowercase").get<bool>();
    strip_accents_ = spec.at("strip_accents").get<bool>();
    split_cjk_ = spec.at("split_cjk").get<bool>();
    max_word_chars_ = spec.at("max_word_chars").get<std::size_t>();
    const nlohmann::json& classes = spec.at("classes");
    control_ = CodePoints(classes.at("control"), "control");
    space_ = CodePoints(classes.at("space"), "space");
    mark_ = CodePoints(classes.at("mark"), "mark");
    punctuation_ = CodePoints(classes.at("punctuation"), "punctuation");
    cjk_ = CodePoints(classes.at("cjk"), "cjk");
  } catch (const nlohmann::json::exception& error) {
    throw Corrupt(std::string("tokenizer spec: ") + error.what() + "; export the model again");
  }

  for (Token id = 0; !vocab.empty(); ++id) {
    const std::size_t end = std::min(vocab.find('\n'), vocab.size());
    if (!ids_.emplace(vocab.substr(0, end), id).second) {
      throw Corrupt(
          fmt::format("vocabulary, line {}: found '{}' a second time; export the model again",
                      id + 1, vocab.substr(0, end)));
    }
    vocab.remove_prefix(std::min(end + 1, vocab.size()));
  }
  if (ids_.size() != vocab_size) {
    throw Corrupt(fmt::format(
        "vocabulary: found {} pieces, the spec has vocab_size {}; export the model again",
        ids_.size(), vocab_size));
  }
  const auto check = [&](Token id, const std::string& name) {
    if (id < 0 || static_cast<std::size_t>(id) >= vocab_size) {
      throw Corrupt(
          fmt::format("tokenizer spec, \"{}\": found id {}, the vocabulary has ids 0 to {}", name,
                      id, vocab_size - 1));
    }
  };
  check(unknown_, "unknown_id");
  check(cls_, "cls_id");
  check(sep_, "sep_id");
  for (const SpecialTokens::Entry& entry : special_.entries()) check(entry.id, "special");
}

std::vector<WordPiece::CodePoint> WordPiece::Normalize(std::string_view text) const {
  std::vector<CodePoint> result;
  result.reserve(text.size());
  ForEachCodePoint(text, [&](CodePoint c) {
    if (control_.Contains(c)) return;
    const bool split = split_cjk_ && cjk_.Contains(c);
    if (split) result.push_back(' ');
    result.push_back(space_.Contains(c) ? ' ' : c);
    if (split) result.push_back(' ');
  });
  if (strip_accents_) {
    Decompose(result);
    std::erase_if(result, [&](CodePoint c) { return mark_.Contains(c); });
  }
  if (!lowercase_) return result;
  std::vector<CodePoint> lower;
  lower.reserve(result.size());
  for (const CodePoint c : result) {
    if (c == 0x130) {  // the one character whose lower case is two: i and a dot above
      lower.insert(lower.end(), {0x69, 0x307});
    } else {
      lower.push_back(utf8proc_tolower(c));
    }
  }
  return lower;
}

void WordPiece::AppendWord(const std::vector<CodePoint>& word, Tokens& ids) const {
  if (word.empty()) return;
  if (word.size() > max_word_chars_) {
    ids.push_back(unknown_);
    return;
  }
  std::string text;
  std::vector<std::size_t> edges;  // where each character begins, and the end
  for (const CodePoint c : word) {
    edges.push_back(text.size());
    AppendUtf8(c, text);
  }
  edges.push_back(text.size());

  const std::size_t before = ids.size();
  std::string piece;
  for (std::size_t start = 0; start < word.size();) {
    std::size_t end = word.size();
    for (; end > start; --end) {
      piece.assign(start > 0 ? kContinuation : "");
      piece.append(text, edges[start], edges[end] - edges[start]);
      if (const auto found = ids_.find(piece); found != ids_.end()) {
        ids.push_back(found->second);
        break;
      }
    }
    if (end == start) {  // no piece fits: the whole word is unknown
      ids.resize(before);
      ids.push_back(unknown_);
      return;
    }
    start = end;
  }
}

WordPieces WordPiece::Encode(std::string_view text, std::size_t max_ids) const {
  if (max_ids < 2) {
    throw InvalidInput(fmt::format(
        "found a limit of {} word pieces, expected at least 2: [CLS] and [SEP]", max_ids));
  }
  if (!IsValidUtf8(text)) {
    throw InvalidInput("the text to tokenize is not valid UTF-8; repair it first");
  }
  WordPieces result;
  Tokens& ids = result.ids;
  ids.push_back(cls_);
  std::vector<CodePoint> word;
  const auto end_word = [&] {
    AppendWord(word, ids);
    word.clear();
  };
  for (const Stretch& stretch : special_.Split(text)) {
    if (stretch.id) {
      ids.push_back(*stretch.id);
      continue;
    }
    for (const CodePoint c : Normalize(stretch.text)) {
      if (space_.Contains(c)) {
        end_word();
      } else if (punctuation_.Contains(c)) {
        end_word();
        word.push_back(c);
        end_word();
      } else {
        word.push_back(c);
      }
    }
    end_word();
  }
  result.pieces_total = ids.size() + 1;
  if (ids.size() > max_ids - 1) ids.resize(max_ids - 1);
  ids.push_back(sep_);
  return result;
}

}  // namespace kvr::text
