// Codecs: how a block's file holds the numbers that a KV buffer holds as fp32.
//
// One codec per cache: it is part of the cache key. Only fp32 gives back what was stored, bit for
// bit; the others are lossy, and nothing may be computed from their values and stored again.
//
// Thread safety: pure functions.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kvr/cache/shape.h"

namespace kvr::cache {

enum class Codec {
  kFp32,  // the buffer's bytes
  kBf16,  // bfloat16: relative error at most 2^-8
  kFp16,  // IEEE half: relative error at most 2^-11 from 2^-14 up, absolute 2^-25 below
  kInt8,  // round(x / scale), one fp32 scale per token and head, for keys and values each:
          // absolute error at most half of the scale, which is the largest magnitude over 127
};

// In the order in which reports show them.
inline constexpr std::array kCodecs = {Codec::kFp32, Codec::kBf16, Codec::kFp16, Codec::kInt8};

// "fp32", "bf16", "fp16", "int8".
[[nodiscard]] const char* ToString(Codec codec);
// Throws kInvalidInput for any other text.
[[nodiscard]] Codec CodecFromString(std::string_view text);
// All of them, for whoever lists what is allowed.
[[nodiscard]] std::vector<std::string> CodecNames();

// Whether a restore gives back the bits that were stored. Buffers are fp32, whatever the model.
[[nodiscard]] constexpr bool IsExact(Codec codec) { return codec == Codec::kFp32; }

// Bytes of one stored number, and its safetensors type.
[[nodiscard]] constexpr std::uint64_t StoredElementBytes(Codec codec) {
  return codec == Codec::kFp32 ? 4 : codec == Codec::kInt8 ? 1 : 2;
}
[[nodiscard]] const char* StoredElementName(Codec codec);

// Bytes of the scales of one token and head: none but for int8.
[[nodiscard]] constexpr std::uint64_t ScaleBytes(Codec codec) {
  return codec == Codec::kInt8 ? sizeof(float) : 0;
}

// Bytes of a file's payload for `tokens` tokens: keys and values, scales included.
[[nodiscard]] inline std::uint64_t StoredBytes(Codec codec, const KvShape& shape,
                                               std::uint64_t tokens) {
  return 2 * shape.Runs() * tokens *
         (ScaleBytes(codec) + shape.head_dim * StoredElementBytes(codec));
}

// Encodes `tokens` times `head_dim` fp32 numbers at `from` to `numbers`, and their scales, one per
// token, to `scales` (int8 only). Rounds to nearest, ties to even. Returns false, with what was
// written unspecified, when a number is not finite or would become infinite: a magnitude of 65520
// or more in fp16, of 3.39617753e38 or more in bf16. No address needs alignment; the ranges do not
// overlap.
// REQUIRES: a lossy codec.
[[nodiscard]] bool Encode(Codec codec, const std::byte* from, std::uint64_t tokens,
                          std::uint32_t head_dim, std::byte* numbers, std::byte* scales);

// The way back, to fp32 at `to`. Every stored pattern decodes, infinities and NaNs to themselves:
// whether they are what Encode wrote is for a checksum to say.
// REQUIRES: a lossy codec.
void Decode(Codec codec, const std::byte* numbers, const std::byte* scales, std::uint64_t tokens,
            std::uint32_t head_dim, std::byte* to);

}  // namespace kvr::cache
