// fp16: IEEE half, a relative error of at most 2^-11 from 2^-14 up, an absolute one of 2^-25 below.
#pragma once

#include <bit>

#include "kvr/cache/codec.h"
#include "numbers.h"

namespace kvr::cache::codecs {

// From here on, magnitudes round to infinity: halfway from the format's largest number, which is
// odd, to the next power of two. It is 65520.
inline constexpr std::uint32_t kFp16Overflow = 0x477F'F000;

// Exponents of fp32 exceed those of fp16 by 112.
inline constexpr std::uint32_t kRebias = std::uint32_t{112} << 23;
inline constexpr std::uint32_t kLeastNormalFp16 = 0x3880'0000;  // 2^-14
inline constexpr std::uint32_t kHalf = 0x3F00'0000;             // 0.5, whose last place is 2^-24

// The compiler does not turn every ?: into a selection; this it does.
inline std::uint32_t Select(bool which, std::uint32_t yes, std::uint32_t no) {
  const std::uint32_t mask = -std::uint32_t{which};
  return (yes & mask) | (no & ~mask);
}

inline constexpr auto kToFp16 = [](std::uint32_t bits) -> std::uint16_t {
  const std::uint32_t magnitude = bits & kMagnitude;
  const std::uint32_t normal = (magnitude - kRebias + 0x0FFF + (magnitude >> 13 & 1)) >> 13;
  // Subnormals are multiples of 2^-24: the addition does the rounding.
  const float shifted = std::bit_cast<float>(magnitude) + std::bit_cast<float>(kHalf);
  const std::uint32_t subnormal = std::bit_cast<std::uint32_t>(shifted) - kHalf;
  return static_cast<std::uint16_t>(Select(magnitude < kLeastNormalFp16, subnormal, normal) |
                                    (bits >> 16 & 0x8000));
};

inline constexpr auto kFromFp16 = [](std::uint16_t bits) -> std::uint32_t {
  const std::uint32_t magnitude = (std::uint32_t{bits} & 0x7FFF) << 13;
  const std::uint32_t normal = magnitude + kRebias;
  // 2^-14 + m 2^-24, less 2^-14.
  const float shifted = std::bit_cast<float>(magnitude + kLeastNormalFp16);
  const std::uint32_t subnormal =
      std::bit_cast<std::uint32_t>(shifted - std::bit_cast<float>(kLeastNormalFp16));
  return (Select(magnitude < (1U << 23), subnormal, normal) +
          Select(magnitude >= (31U << 23), kRebias, 0)) |  // infinity and NaN
         (std::uint32_t{bits} & 0x8000) << 16;
};

inline bool EncodeFp16(const std::byte* from, std::uint64_t tokens, std::uint32_t head_dim,
                       std::byte* numbers, std::byte*) {
  const std::uint64_t count = tokens * head_dim;
  if (LargestMagnitude(from, count) >= kFp16Overflow) return false;
  Transform<std::uint32_t>(from, count, numbers, kToFp16);
  return true;
}

inline void DecodeFp16(const std::byte* numbers, const std::byte*, std::uint64_t tokens,
                       std::uint32_t head_dim, std::byte* to) {
  Transform<std::uint16_t>(numbers, tokens * head_dim, to, kFromFp16);
}

inline constexpr Codec kFp16 = {.name = "fp16",
                                .element = "F16",
                                .element_bytes = 2,
                                .scale_bytes = 0,
                                .encode = EncodeFp16,
                                .decode = DecodeFp16};

}  // namespace kvr::cache::codecs
