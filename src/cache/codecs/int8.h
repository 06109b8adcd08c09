// int8: round(x / scale), one fp32 scale per token and head, for keys and values each: an absolute
// error of at most half of the scale, which is the largest magnitude over 127.
#pragma once

#include <bit>
#include <limits>

#include "kvr/cache/codec.h"
#include "numbers.h"

namespace kvr::cache::codecs {

inline bool EncodeInt8(const std::byte* from, std::uint64_t tokens, std::uint32_t head_dim,
                       std::byte* numbers, std::byte* scales) {
  for (std::uint64_t token = 0; token < tokens; ++token) {
    const std::byte* const own = from + token * head_dim * sizeof(float);
    const std::uint32_t largest = LargestMagnitude(own, head_dim);
    if (largest >= kInfinity) return false;
    // A subnormal scale would be too coarse itself; above it, half a scale holds for all.
    const float scale =
        std::max(std::bit_cast<float>(largest) / 127, std::numeric_limits<float>::min());
    Transform<float>(own, head_dim, numbers + token * head_dim, [scale](float x) {
      // 1.5 * 2^23: its last place is 1, so the addition rounds, and the result's last byte is the
      // two's complement.
      const float rounded = x / scale + 12582912.0F;
      return static_cast<std::uint8_t>(std::bit_cast<std::uint32_t>(rounded));
    });
    Save(scale, scales + token * sizeof(float));
  }
  return true;
}

inline void DecodeInt8(const std::byte* numbers, const std::byte* scales, std::uint64_t tokens,
                       std::uint32_t head_dim, std::byte* to) {
  for (std::uint64_t token = 0; token < tokens; ++token) {
    const auto scale = Load<float>(scales + token * sizeof(float));
    Transform<std::int8_t>(
        numbers + token * head_dim, head_dim, to + token * head_dim * sizeof(float),
        [scale](std::int8_t number) { return static_cast<float>(number) * scale; });
  }
}

inline constexpr Codec kInt8 = {.name = "int8",
                                .element = "I8",
                                .element_bytes = 1,
                                .scale_bytes = sizeof(float),
                                .encode = EncodeInt8,
                                .decode = DecodeInt8};

}  // namespace kvr::cache::codecs
