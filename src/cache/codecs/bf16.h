// bf16: bfloat16, a relative error of at most 2^-8.
#pragma once

#include "kvr/cache/codec.h"
#include "numbers.h"

namespace kvr::cache::codecs {

// From here on, magnitudes round to infinity: halfway from the format's largest number, which is
// odd, to the next power of two. It is 3.39617753e38.
inline constexpr std::uint32_t kBf16Overflow = 0x7F7F'8000;

inline constexpr auto kToBf16 = [](std::uint32_t bits) -> std::uint16_t {
  return static_cast<std::uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
};

inline constexpr auto kFromBf16 = [](std::uint16_t bits) -> std::uint32_t {
  return std::uint32_t{bits} << 16;
};

inline bool EncodeBf16(const std::byte* from, std::uint64_t tokens, std::uint32_t head_dim,
                       std::byte* numbers, std::byte*) {
  const std::uint64_t count = tokens * head_dim;
  if (LargestMagnitude(from, count) >= kBf16Overflow) return false;
  Transform<std::uint32_t>(from, count, numbers, kToBf16);
  return true;
}

inline void DecodeBf16(const std::byte* numbers, const std::byte*, std::uint64_t tokens,
                       std::uint32_t head_dim, std::byte* to) {
  Transform<std::uint16_t>(numbers, tokens * head_dim, to, kFromBf16);
}

inline constexpr Codec kBf16 = {.name = "bf16",
                                .element = "BF16",
                                .element_bytes = 2,
                                .scale_bytes = 0,
                                .encode = EncodeBf16,
                                .decode = DecodeBf16};

}  // namespace kvr::cache::codecs
