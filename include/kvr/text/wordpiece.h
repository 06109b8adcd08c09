// BERT's tokenizer: cleaning, lower-casing, accent stripping, CJK and punctuation splitting, then
// greedy longest-match-first word pieces.
//
// Thread safety: const methods may run concurrently.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <unordered_map>

#include "kvr/base/types.h"

namespace kvr::text {

struct WordPieces {
  Tokens ids;                 // [CLS] pieces [SEP]
  std::size_t pieces_total;   // ids before truncation, [CLS] and [SEP] included
};

class WordPiece {
 public:
  // `spec` is the archive's metadata "tokenizer" object (docs/archive_format.md), `vocab` one piece
  // a line in the order of ids. Throws kCorrupt when either cannot be used.
  WordPiece(const nlohmann::json& spec, std::string_view vocab);

  // REQUIRES: `text` is valid UTF-8. At most `max_ids` ids (MiniLM: 256), [CLS] and [SEP] included.
  [[nodiscard]] WordPieces Encode(std::string_view text, std::size_t max_ids) const;

 private:
  std::unordered_map<std::string, Token> ids_;
  bool lowercase_ = true;
  bool strip_accents_ = true;
  bool split_cjk_ = true;
  Token unknown_ = 0, cls_ = 0, sep_ = 0;
};

}  // namespace kvr::text
