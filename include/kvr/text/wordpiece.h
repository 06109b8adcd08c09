// BERT's tokenizer: cleaning, lower-casing, accent stripping, CJK and punctuation splitting, then
// greedy longest-match-first word pieces.
//
// Thread safety: const methods may run concurrently. Errors: as each method says. Cost: linear in
// the text, with up to max_word_chars look-ups for each character.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "kvr/base/types.h"
#include "kvr/text/special_tokens.h"

namespace kvr::text {

struct WordPieces {
  Tokens ids;                // [CLS] pieces [SEP]
  std::size_t pieces_total;  // ids before truncation, [CLS] and [SEP] included
};

// A set of code points, made of ranges.
class CodePoints {
 public:
  CodePoints() = default;
  // `ranges` is [first, last, first, last, ...], ascending. Throws kCorrupt, naming `name`.
  CodePoints(const nlohmann::json& ranges, const std::string& name);
  [[nodiscard]] bool Contains(std::int32_t code_point) const;

 private:
  std::vector<std::int32_t> bounds_;  // first, one past last, first, ...
};

class WordPiece {
 public:
  // `spec` is the archive's metadata "tokenizer" object (docs/archive_format.md):
  //   {"kind": "wordpiece", "vocab_size": n, "special": [{"text", "id"}, ...], "unknown_id",
  //    "cls_id", "sep_id", "lowercase", "strip_accents", "split_cjk", "max_word_chars": 100,
  //    "classes": {"control", "space", "mark", "punctuation", "cjk": ranges of code points}}
  // The classes are the reference's own: which characters count as punctuation depends on the
  // Unicode version of whoever asks. `vocab` is one piece a line in the order of ids.
  // Throws kCorrupt when either cannot be used.
  WordPiece(const nlohmann::json& spec, std::string_view vocab);

  // The ids of `text`, at most `max_ids` of them (MiniLM: 256), [CLS] and [SEP] included. Special
  // tokens such as [MASK] written out in the text become their single ids.
  // Throws kInvalidInput when `text` is not UTF-8 (see SanitizeUtf8) or `max_ids` is below 2.
  [[nodiscard]] WordPieces Encode(std::string_view text, std::size_t max_ids) const;

 private:
  using CodePoint = std::int32_t;

  // Cleaned, split around CJK, decomposed, stripped and lower-cased, as the options say.
  [[nodiscard]] std::vector<CodePoint> Normalize(std::string_view text) const;
  // Appends the pieces of one word, or [UNK].
  void AppendWord(const std::vector<CodePoint>& word, Tokens& ids) const;

  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view s) const { return std::hash<std::string_view>{}(s); }
  };
  std::unordered_map<std::string, Token, Hash, std::equal_to<>> ids_;
  SpecialTokens special_;
  CodePoints control_, space_, mark_, punctuation_, cjk_;
  bool lowercase_ = true;
  bool strip_accents_ = true;
  bool split_cjk_ = true;
  std::size_t max_word_chars_ = 100;
  Token unknown_ = 0, cls_ = 0, sep_ = 0;
};

}  // namespace kvr::text
