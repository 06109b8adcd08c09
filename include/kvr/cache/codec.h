// Codecs: how a block's file holds the numbers that a KV buffer holds as fp32.
//
// One codec per cache: it is part of the cache key. Only fp32 gives back what was stored, bit for
// bit; the others are lossy, and nothing may be computed from their values and stored again.
//
// A codec is one file in src/cache/codecs/ and one line, with its include, in src/cache/codec.cc.
//
// Thread safety: constants and pure functions.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kvr/cache/shape.h"

namespace kvr::cache {

struct Codec {
  const char* name;     // in configs, cache keys, files and reports
  const char* element;  // the safetensors type of one stored number
  std::uint64_t element_bytes;
  std::uint64_t scale_bytes;  // of the scales of one token and head, keys and values each

  // Encodes `tokens` times `head_dim` fp32 numbers at `from` to `numbers`, and their scales, one
  // per token, to `scales` if the codec has them. Rounds to nearest, ties to even. Returns false,
  // with what was written unspecified, when a number is one that the codec cannot hold: none is
  // infinite or becomes so. No address needs alignment; the ranges do not overlap.
  // Null: files hold the buffer's bytes as they are.
  bool (*encode)(const std::byte* from, std::uint64_t tokens, std::uint32_t head_dim,
                 std::byte* numbers, std::byte* scales);
  // The way back, to fp32 at `to`. Every stored pattern decodes, infinities and NaNs to themselves:
  // whether they are what encode wrote is for a checksum to say. Null with encode.
  void (*decode)(const std::byte* numbers, const std::byte* scales, std::uint64_t tokens,
                 std::uint32_t head_dim, std::byte* to);

  // The default, and the one that is exact.
  static const Codec kFp32;

  // By name: it stands for the rest.
  friend bool operator==(const Codec& a, const Codec& b) {
    return std::string_view(a.name) == b.name;
  }
  friend auto operator<=>(const Codec& a, const Codec& b) {
    return std::string_view(a.name) <=> b.name;
  }
};

// All of them, from exact to coarse: the order in which messages show them.
extern const std::span<const Codec> kCodecs;

[[nodiscard]] inline const char* ToString(const Codec& codec) { return codec.name; }
// Throws kInvalidInput for a text that names none.
[[nodiscard]] Codec CodecFromString(std::string_view text,
                                    std::span<const Codec> registry = kCodecs);
// For whoever lists what is allowed.
[[nodiscard]] std::vector<std::string> CodecNames(std::span<const Codec> registry = kCodecs);

// Whether a restore gives back the bits that were stored. Buffers are fp32, whatever the model.
[[nodiscard]] inline bool IsExact(const Codec& codec) { return codec.encode == nullptr; }

// Bytes of a file's payload for `tokens` tokens: keys and values, scales included.
[[nodiscard]] inline std::uint64_t StoredBytes(const Codec& codec, const KvShape& shape,
                                               std::uint64_t tokens) {
  return 2 * shape.Runs() * tokens * (codec.scale_bytes + shape.head_dim * codec.element_bytes);
}

}  // namespace kvr::cache
