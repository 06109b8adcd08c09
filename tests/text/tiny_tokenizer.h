// Tiny tokenizers for tests: SentencePiece BPE models written out field by field
// (sentencepiece_model.proto's ModelProto), and the specs that go with them.
#pragma once

#include <bit>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace kvr::text::testing {

enum class PieceType { kNormal = 1, kUnknown = 2, kControl = 3, kByte = 6 };

struct Piece {
  std::string text;
  float score = 0;
  PieceType type = PieceType::kNormal;
};

class Proto {
 public:
  Proto& Varint(unsigned field, std::uint64_t value) {
    Raw(field << 3);
    Raw(value);
    return *this;
  }
  Proto& Float(unsigned field, float value) {
    Raw(field << 3 | 5);
    const auto bits = std::bit_cast<std::uint32_t>(value);
    for (unsigned shift = 0; shift < 32; shift += 8) bytes_ += static_cast<char>(bits >> shift);
    return *this;
  }
  Proto& Bytes(unsigned field, std::string_view value) {
    Raw(field << 3 | 2);
    Raw(value.size());
    bytes_ += value;
    return *this;
  }
  [[nodiscard]] const std::string& bytes() const { return bytes_; }

 private:
  void Raw(std::uint64_t value) {
    for (; value >= 0x80; value >>= 7) bytes_ += static_cast<char>((value & 0x7F) | 0x80);
    bytes_ += static_cast<char>(value);
  }
  std::string bytes_;
};

inline std::string ModelProto(const std::vector<Piece>& pieces, bool dummy_prefix,
                              bool byte_fallback) {
  Proto model;
  for (const Piece& piece : pieces) {
    model.Bytes(1, Proto()
                       .Bytes(1, piece.text)
                       .Float(2, piece.score)
                       .Varint(3, static_cast<std::uint64_t>(piece.type))
                       .bytes());
  }
  model.Bytes(2, Proto().Varint(3, 2).Varint(35, byte_fallback).bytes());  // BPE
  model.Bytes(3, Proto()
                     .Bytes(1, "identity")
                     .Varint(3, dummy_prefix)
                     .Varint(4, 0)              // white space is kept as it is
                     .Varint(5, byte_fallback)  // and written as U+2581
                     .bytes());
  return model.bytes();
}

// GPT-2's byte characters, as UTF-8.
inline std::string ByteCharacter(unsigned byte) {
  const auto printable = [](unsigned b) {
    return (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || (b >= 0xAE && b <= 0xFF);
  };
  unsigned c = byte;
  if (!printable(byte)) {
    c = 0x100;
    for (unsigned b = 0; b < byte; ++b) c += printable(b) ? 0 : 1;
  }
  if (c < 0x80) return {static_cast<char>(c)};
  return {static_cast<char>(0xC0 | (c >> 6)), static_cast<char>(0x80 | (c & 0x3F))};
}

struct Merge {
  std::string left, right;
};

// Ids: 0 <|end|>, 1 <|end|>|, 2 <pad> (takes white space on both sides); then the bytes but for
// `missing`, in order; then the merges, given as plain bytes, in order.
inline std::vector<Piece> ByteBpePieces(const std::vector<Merge>& merges,
                                        const std::string& missing = "") {
  std::vector<Piece> pieces = {{"<|end|>", 0, PieceType::kUnknown},
                               {"<|end|>|", 0, PieceType::kControl},
                               {"<pad>", 0, PieceType::kControl}};
  for (unsigned byte = 0; byte < 256; ++byte) {
    if (missing.find(static_cast<char>(byte)) == std::string::npos) {
      pieces.push_back({ByteCharacter(byte)});
    }
  }
  float rank = 0;
  for (const Merge& merge : merges) {
    Piece piece;
    for (const char c : merge.left + merge.right) {
      piece.text += ByteCharacter(static_cast<unsigned char>(c));
    }
    piece.score = -rank++;
    pieces.push_back(piece);
  }
  return pieces;
}

inline nlohmann::json ByteBpeSpec(std::size_t vocab_size) {
  return {
      {"kind", "byte_bpe"},
      {"vocab_size", vocab_size},
      {"special",
       {{{"text", "<|end|>"}, {"id", 0}},
        {{"text", "<|end|>|"}, {"id", 1}},
        {{"text", "<pad>"}, {"id", 2}, {"lstrip", true}, {"rstrip", true}}}},
      {"add_bos", false},
      {"pattern", R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)"}};
}

}  // namespace kvr::text::testing
