// A language model's tokenizer: text to token ids and back, exactly as the reference does it.
//
// Thread safety: const methods may run concurrently. Errors and cost: as each method says.
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "kvr/base/types.h"

namespace kvr::text {

class Tokenizer {
 public:
  // `spec` is the archive's metadata "tokenizer" object (docs/archive_format.md), `model` the bytes
  // of its tokenizer.model, a SentencePiece model:
  //   {"kind": "byte_bpe", "vocab_size": n, "special": [{"text", "id", "lstrip", "rstrip"}, ...],
  //    "add_bos": bool, "bos_id": id (if add_bos),
  //    "pattern": a PCRE2 pattern that cuts the text between special tokens}
  //   {"kind": "sentencepiece", "vocab_size": n, "special": [...], "add_bos": bool, "bos_id": id,
  //    "dummy_prefix": bool}
  // Throws kCorrupt when either cannot be read or they disagree.
  // Cost: about 0.05 s for 50,000 tokens; then Encode reads about 2 MB/s.
  Tokenizer(const nlohmann::json& spec, std::string_view model);
  ~Tokenizer();
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;

  // The ids of `text`. Special tokens written out in the text become their single ids; nothing is
  // added in front or behind, except what the model's own tokenizer always adds ("add_bos").
  // Throws kInvalidInput when `text` is not UTF-8 (see SanitizeUtf8).
  [[nodiscard]] Tokens Encode(std::string_view text) const;

  // The bytes that `ids` stand for; special tokens are written out, or left out on request. The
  // result may end inside a UTF-8 character: see StreamDecoder. Throws kInvalidInput for an id
  // outside the vocabulary.
  //
  // Decode(Encode(text)) is `text`, but for what a model's vocabulary itself loses: bytes without a
  // token (SmolLM2 has none for a few control characters and the upper planes; its reference drops
  // them too), spaces that a special token's lstrip or rstrip takes, a SentencePiece model's
  // normalization, and a beginning-of-text token that Encode added. The space that SentencePiece
  // puts in front of each stretch of text ("dummy_prefix") is taken off again.
  [[nodiscard]] std::string Decode(std::span<const Token> ids, bool skip_special = false) const;

  // The id of a special token's text, or nothing.
  [[nodiscard]] std::optional<Token> SpecialToken(std::string_view text) const;
  [[nodiscard]] int vocab_size() const;

 private:
  friend class StreamDecoder;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Turns a growing list of ids into text that never ends inside a UTF-8 character. Bytes that can
// not become a character are replaced by U+FFFD. Push every new id; Flush once at the end. All that
// comes out, one after the other, is SanitizeUtf8(Decode(all ids)).
//
// The tokenizer must outlive it. Not thread safe.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer, bool skip_special = true)
      : tokenizer_(&tokenizer), skip_special_(skip_special) {}

  // The text that is certain after `id`; may be empty. Throws like Decode.
  [[nodiscard]] std::string Push(Token id);
  // What is left: an unfinished character comes out as U+FFFD.
  [[nodiscard]] std::string Flush();

 private:
  const Tokenizer* tokenizer_;
  bool skip_special_;
  bool at_start_ = true;  // of a stretch of ordinary text
  std::string pending_;   // an unfinished character's bytes
};

}  // namespace kvr::text
