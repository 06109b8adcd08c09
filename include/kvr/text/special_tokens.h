// Special tokens written out in a text, and how a text is cut at them.
//
// Thread safety: const methods may run concurrently. Errors: as each method says. Cost: a pass over
// the text; where a token may begin, a comparison with each of them.
#pragma once

#include <array>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kvr/base/types.h"

namespace kvr::text {

// A stretch of a text: a special token, or (without an id) ordinary text, which is never empty.
struct Stretch {
  std::string_view text;
  std::optional<Token> id;
};

class SpecialTokens {
 public:
  struct Entry {
    std::string text;
    Token id = 0;
    bool lstrip = false;  // white space before (after) it in the text belongs to the token
    bool rstrip = false;
  };

  // `list` is the "special" array of the archive's metadata "tokenizer" object
  // (docs/archive_format.md). Throws kCorrupt for another shape, an empty or repeated text, a
  // negative or repeated id.
  explicit SpecialTokens(const nlohmann::json& list);

  // Cuts `text` as Hugging Face's tokenizers does: from left to right, the longest token that
  // begins at a position wins. The result views `text`.
  // Cost: linear in the text; at a byte that begins a token, the tokens are compared one by one.
  [[nodiscard]] std::vector<Stretch> Split(std::string_view text) const;

  [[nodiscard]] std::optional<Token> Find(std::string_view text) const;
  // Longest text first.
  [[nodiscard]] const std::vector<Entry>& entries() const { return entries_; }

 private:
  std::vector<Entry> entries_;
  std::array<bool, 256> begins_token_{};  // by first byte
};

}  // namespace kvr::text
