#include "kvr/text/tokenizer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <sentencepiece_processor.h>
#include <spdlog/fmt/fmt.h>

#include <array>
#include <nlohmann/json.hpp>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "kvr/base/error.h"
#include "kvr/base/utf8.h"
#include "kvr/text/special_tokens.h"

namespace kvr::text {

namespace {

constexpr std::string_view kSpaceMark = "\xE2\x96\x81";  // U+2581, SentencePiece's space

// GPT-2's mapping from bytes to printable characters (its encoder.py, bytes_to_unicode): printable
// Latin-1 stands for itself, the other 68 bytes are U+0100 and up, in order.
std::array<std::string, 256> ByteCharacters() {
  std::array<std::string, 256> characters;
  unsigned next = 0x100;
  for (unsigned byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) ||
                           (byte >= 0xAE && byte <= 0xFF);
    const unsigned c = printable ? byte : next++;
    if (c < 0x80) {
      characters[byte] = {static_cast<char>(c)};
    } else {
      characters[byte] = {static_cast<char>(0xC0 | (c >> 6)), static_cast<char>(0x80 | (c & 0x3F))};
    }
  }
  return characters;
}

const std::array<std::string, 256>& ByteCharacter() {
  static const std::array<std::string, 256> characters = ByteCharacters();
  return characters;
}

// Cuts text with a PCRE2 pattern.
class Cutter {
 public:
  explicit Cutter(const std::string& pattern) {
    int error = 0;
    PCRE2_SIZE offset = 0;
    code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                              PCRE2_UTF | PCRE2_UCP, &error, &offset, nullptr));
    if (code_ == nullptr) {
      throw Corrupt(
          fmt::format("tokenizer spec, \"pattern\": {} at byte {}; export the model again",
                      Message(error), offset));
    }
    // Without JIT (another processor, a hardened system) matching is slower and the same.
    (void)pcre2_jit_compile(code_.get(), PCRE2_JIT_COMPLETE);
  }

  // Calls `cut` with each match and each stretch between matches, in order.
  // REQUIRES: `text` is valid UTF-8.
  template <typename F>
  void Cut(std::string_view text, F cut) const {
    const std::unique_ptr<pcre2_match_data, Free> match(
        pcre2_match_data_create_from_pattern(code_.get(), nullptr));
    if (match == nullptr) throw Resource("out of memory while cutting text into words");
    for (std::size_t done = 0; done < text.size();) {
      const std::size_t from = Find(text, done, match.get());
      if (from == std::string_view::npos) {
        cut(text.substr(done));
        return;
      }
      const std::size_t to = pcre2_get_ovector_pointer(match.get())[1];
      if (to <= from) {
        throw Corrupt(
            fmt::format("tokenizer spec, \"pattern\": it matches the empty string at byte {} of a "
                        "text; export the model again",
                        from));
      }
      if (from > done) cut(text.substr(done, from - done));
      cut(text.substr(from, to - from));
      done = to;
    }
  }

 private:
  struct Free {
    void operator()(pcre2_code* p) const { pcre2_code_free(p); }
    void operator()(pcre2_match_data* p) const { pcre2_match_data_free(p); }
  };

  static std::string Message(int error) {
    std::array<PCRE2_UCHAR, 256> text{};
    pcre2_get_error_message(error, text.data(), text.size());
    return reinterpret_cast<const char*>(text.data());
  }

  // Where the next match at or after `from` begins, or npos.
  std::size_t Find(std::string_view text, std::size_t from, pcre2_match_data* match) const {
    const auto search = [&](std::uint32_t options) {
      return pcre2_match(code_.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), from,
                         PCRE2_NO_UTF_CHECK | options, match, nullptr);
    };
    int result = search(0);
    // JIT code has 32 KiB of stack; the interpreter takes the heap.
    if (result == PCRE2_ERROR_JIT_STACKLIMIT) result = search(PCRE2_NO_JIT);
    if (result == PCRE2_ERROR_NOMATCH) return std::string_view::npos;
    if (result < 0) {
      throw Resource(fmt::format("cutting text into words at byte {}: {}; shorten the text", from,
                                 Message(result)));
    }
    return pcre2_get_ovector_pointer(match)[0];
  }

  std::unique_ptr<pcre2_code, Free> code_;
};

Error CorruptModel(const std::string& found) {
  return Corrupt("tokenizer.model: " + found + "; export the model again");
}

}  // namespace

struct Tokenizer::Impl {
  Impl(const nlohmann::json& spec, std::string_view model) : special(Get(spec, "special")) {
    const std::string kind = Value<std::string>(spec, "kind");
    if (kind == "byte_bpe") {
      cutter.emplace(Value<std::string>(spec, "pattern"));
    } else if (kind == "sentencepiece") {
      dummy_prefix = Value<bool>(spec, "dummy_prefix");
    } else {
      throw Corrupt("tokenizer spec, \"kind\": found '" + kind +
                    "', expected 'byte_bpe' or 'sentencepiece'; export the model again");
    }
    if (Value<bool>(spec, "add_bos")) bos = Value<Token>(spec, "bos_id");
    const auto status = processor.LoadFromSerializedProto(model);
    if (!status.ok()) throw CorruptModel(status.ToString());
    const int size = processor.GetPieceSize();
    if (const int expected = Value<int>(spec, "vocab_size"); size != expected) {
      throw CorruptModel(
          fmt::format("found {} pieces, the spec has vocab_size {}", size, expected));
    }
    if (bos && (*bos < 0 || *bos >= size)) {
      throw CorruptModel(fmt::format("the spec's bos_id {} is not one of {} pieces", *bos, size));
    }
    ReadPieces(size);
  }

  static const nlohmann::json& Get(const nlohmann::json& spec, const char* key) {
    if (!spec.is_object() || !spec.contains(key)) {
      throw Corrupt(std::string("tokenizer spec: no \"") + key + "\"; export the model again");
    }
    return spec[key];
  }

  template <typename T>
  static T Value(const nlohmann::json& spec, const char* key) {
    try {
      return Get(spec, key).get<T>();
    } catch (const nlohmann::json::exception& error) {
      throw Corrupt(std::string("tokenizer spec, \"") + key + "\": " + error.what() +
                    "; export the model again");
    }
  }

  // Fills `bytes_of`, `is_special` and `has_byte`.
  void ReadPieces(int size) {
    bytes_of.resize(static_cast<std::size_t>(size));
    is_special.resize(static_cast<std::size_t>(size));
    for (const SpecialTokens::Entry& entry : special.entries()) {
      if (entry.id >= size) {
        throw CorruptModel(fmt::format("the special token '{}' has id {}, there are {} pieces",
                                       entry.text, entry.id, size));
      }
      bytes_of[static_cast<std::size_t>(entry.id)] = entry.text;
      is_special[static_cast<std::size_t>(entry.id)] = true;
    }
    std::unordered_map<std::string, char> byte_of;
    for (unsigned byte = 0; byte < 256; ++byte) {
      byte_of[ByteCharacter()[byte]] = static_cast<char>(byte);
    }
    for (int id = 0; id < size; ++id) {
      const auto at = static_cast<std::size_t>(id);
      if (is_special[at]) continue;
      const std::string& piece = processor.IdToPiece(id);
      if (!cutter) {
        bytes_of[at] = SentencePieceBytes(id, piece);
        continue;
      }
      for (std::size_t i = 0; i < piece.size();) {
        const std::size_t length = static_cast<unsigned char>(piece[i]) < 0x80 ? 1 : 2;
        const auto found = byte_of.find(piece.substr(i, length));
        if (found == byte_of.end()) {
          throw CorruptModel(fmt::format(
              "piece {} ('{}') is no special token and not made of byte characters", id, piece));
        }
        bytes_of[at] += found->second;
        i += length;
      }
      if (bytes_of[at].size() == 1) has_byte[static_cast<unsigned char>(bytes_of[at][0])] = true;
    }
  }

  std::string SentencePieceBytes(int id, const std::string& piece) const {
    if (processor.IsByte(id)) {  // <0x0A>
      return {static_cast<char>(std::stoi(piece.substr(3, 2), nullptr, 16))};
    }
    std::string bytes;
    for (std::size_t i = 0; i < piece.size();) {
      if (std::string_view(piece).substr(i).starts_with(kSpaceMark)) {
        bytes += ' ';
        i += kSpaceMark.size();
      } else {
        bytes += piece[i++];
      }
    }
    return bytes;
  }

  // Appends the ids of `text`, which SentencePiece reads as one sentence.
  void EncodeSentence(std::string_view text, Tokens& ids) const {
    std::vector<int> found;
    const auto status = processor.Encode(text, &found);
    if (!status.ok()) throw InvalidInput("the tokenizer refused a text: " + status.ToString());
    ids.insert(ids.end(), found.begin(), found.end());
  }

  // Appends what `id` stands for. `at_start` is whether ordinary text begins here; it is updated.
  void Append(Token id, bool skip_special, bool& at_start, std::string& out) const {
    if (id < 0 || static_cast<std::size_t>(id) >= bytes_of.size()) {
      throw InvalidInput(fmt::format("found token id {}, the vocabulary has ids 0 to {}", id,
                                     bytes_of.size() - 1));
    }
    const auto at = static_cast<std::size_t>(id);
    if (is_special[at]) {
      if (!skip_special) out += bytes_of[at];
      at_start = true;
      return;
    }
    std::string_view bytes = bytes_of[at];
    if (dummy_prefix && at_start && bytes.starts_with(' ')) bytes.remove_prefix(1);
    at_start = false;
    out += bytes;
  }

  SpecialTokens special;
  std::optional<Cutter> cutter;  // byte_bpe only
  bool dummy_prefix = false;
  std::optional<Token> bos;
  sentencepiece::SentencePieceProcessor processor;
  std::vector<std::string> bytes_of;  // by id: what it stands for
  std::vector<bool> is_special;       // by id
  std::array<bool, 256> has_byte{};   // byte_bpe: whether the byte alone is a token
};

Tokenizer::Tokenizer(const nlohmann::json& spec, std::string_view model)
    : impl_(std::make_unique<Impl>(spec, model)) {}
Tokenizer::~Tokenizer() = default;
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;

Tokens Tokenizer::Encode(std::string_view text) const {
  if (!IsValidUtf8(text)) {
    throw InvalidInput("the text to tokenize is not valid UTF-8; repair it first");
  }
  Tokens ids;
  if (impl_->bos) ids.push_back(*impl_->bos);
  std::string mapped;
  for (const Stretch& stretch : impl_->special.Split(text)) {
    if (stretch.id) {
      ids.push_back(*stretch.id);
    } else if (!impl_->cutter) {
      impl_->EncodeSentence(stretch.text, ids);
    } else {
      impl_->cutter->Cut(stretch.text, [&](std::string_view cut) {
        mapped.clear();
        for (const char c : cut) {
          const auto byte = static_cast<unsigned char>(c);
          // A byte without a token vanishes and its neighbours meet, as in the reference.
          if (impl_->has_byte[byte]) mapped += ByteCharacter()[byte];
        }
        impl_->EncodeSentence(mapped, ids);
      });
    }
  }
  return ids;
}

std::string Tokenizer::Decode(std::span<const Token> ids, bool skip_special) const {
  std::string text;
  bool at_start = true;
  for (const Token id : ids) impl_->Append(id, skip_special, at_start, text);
  return text;
}

std::optional<Token> Tokenizer::SpecialToken(std::string_view text) const {
  return impl_->special.Find(text);
}

int Tokenizer::vocab_size() const { return static_cast<int>(impl_->bytes_of.size()); }

std::string StreamDecoder::Push(Token id) {
  tokenizer_->impl_->Append(id, skip_special_, at_start_, pending_);
  const std::size_t certain = pending_.size() - UnfinishedTail(pending_);
  std::string text = SanitizeUtf8(std::string_view(pending_).substr(0, certain)).text;
  pending_.erase(0, certain);
  return text;
}

std::string StreamDecoder::Flush() {
  std::string text = SanitizeUtf8(pending_).text;
  pending_.clear();
  at_start_ = true;
  return text;
}

}  // namespace kvr::text
