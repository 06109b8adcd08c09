#include "kvr/cache/codec.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cstring>
#include <limits>

#include "kvr/base/error.h"

namespace kvr::cache {

namespace {

// The conversions below take and give bit patterns and branch nowhere, so that the compiler makes
// vector code of their loops on any processor; plain x86-64 has no instructions for halves. They
// are objects, not functions, so that each gets a loop of its own.

constexpr std::uint32_t kMagnitude = 0x7FFF'FFFF;
constexpr std::uint32_t kInfinity = 0x7F80'0000;

// The compiler does not turn every ?: into a selection; this it does.
std::uint32_t Select(bool which, std::uint32_t yes, std::uint32_t no) {
  const std::uint32_t mask = -std::uint32_t{which};
  return (yes & mask) | (no & ~mask);
}

// From here on, magnitudes round to infinity: halfway from the format's largest number, which is
// odd, to the next power of two.
constexpr std::uint32_t kBf16Overflow = 0x7F7F'8000;
constexpr std::uint32_t kFp16Overflow = 0x477F'F000;  // 65520

constexpr auto kToBf16 = [](std::uint32_t bits) -> std::uint16_t {
  return static_cast<std::uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
};

constexpr auto kFromBf16 = [](std::uint16_t bits) -> std::uint32_t {
  return std::uint32_t{bits} << 16;
};

// Exponents of fp32 exceed those of fp16 by 112.
constexpr std::uint32_t kRebias = std::uint32_t{112} << 23;
constexpr std::uint32_t kLeastNormalFp16 = 0x3880'0000;  // 2^-14
constexpr std::uint32_t kHalf = 0x3F00'0000;             // 0.5, whose last place is 2^-24

constexpr auto kToFp16 = [](std::uint32_t bits) -> std::uint16_t {
  const std::uint32_t magnitude = bits & kMagnitude;
  const std::uint32_t normal = (magnitude - kRebias + 0x0FFF + (magnitude >> 13 & 1)) >> 13;
  // Subnormals are multiples of 2^-24: the addition does the rounding.
  const float shifted = std::bit_cast<float>(magnitude) + std::bit_cast<float>(kHalf);
  const std::uint32_t subnormal = std::bit_cast<std::uint32_t>(shifted) - kHalf;
  return static_cast<std::uint16_t>(Select(magnitude < kLeastNormalFp16, subnormal, normal) |
                                    (bits >> 16 & 0x8000));
};

constexpr auto kFromFp16 = [](std::uint16_t bits) -> std::uint32_t {
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

template <typename T>
T Load(const std::byte* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

template <typename T>
void Save(T value, std::byte* at) {
  std::memcpy(at, &value, sizeof value);
}

template <typename From, typename Function>
void Transform(const std::byte* __restrict from, std::uint64_t count, std::byte* __restrict to,
               Function function) {
  for (std::uint64_t i = 0; i < count; ++i) {
    const auto value = function(Load<From>(from + i * sizeof(From)));
    Save(value, to + i * sizeof value);
  }
}

// The largest magnitude, as a pattern: patterns of magnitudes are ordered as the numbers are, and
// infinity and NaN come last.
std::uint32_t LargestMagnitude(const std::byte* from, std::uint64_t count) {
  std::int32_t largest = 0;  // signed: the comparison that every vector unit has
  for (std::uint64_t i = 0; i < count; ++i) {
    const auto magnitude =
        static_cast<std::int32_t>(Load<std::uint32_t>(from + i * 4) & kMagnitude);
    largest = std::max(largest, magnitude);
  }
  return static_cast<std::uint32_t>(largest);
}

bool EncodeInt8(const std::byte* from, std::uint64_t tokens, std::uint32_t head_dim,
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

}  // namespace

const char* ToString(Codec codec) {
  switch (codec) {
    case Codec::kFp32:
      return "fp32";
    case Codec::kBf16:
      return "bf16";
    case Codec::kFp16:
      return "fp16";
    case Codec::kInt8:
      return "int8";
  }
  return "";
}

Codec CodecFromString(std::string_view text) {
  for (const Codec codec : kCodecs) {
    if (text == ToString(codec)) return codec;
  }
  throw InvalidInput("codec: found '" + std::string(text) + "', expected fp32, bf16, fp16 or int8");
}

std::vector<std::string> CodecNames() {
  std::vector<std::string> names(kCodecs.size());
  std::transform(kCodecs.begin(), kCodecs.end(), names.begin(), ToString);
  return names;
}

const char* StoredElementName(Codec codec) {
  switch (codec) {
    case Codec::kFp32:
      return "F32";
    case Codec::kBf16:
      return "BF16";
    case Codec::kFp16:
      return "F16";
    case Codec::kInt8:
      return "I8";
  }
  return "";
}

bool Encode(Codec codec, const std::byte* from, std::uint64_t tokens, std::uint32_t head_dim,
            std::byte* numbers, std::byte* scales) {
  assert(!IsExact(codec));
  if (codec == Codec::kInt8) return EncodeInt8(from, tokens, head_dim, numbers, scales);
  const std::uint64_t count = tokens * head_dim;
  const bool bf16 = codec == Codec::kBf16;
  if (LargestMagnitude(from, count) >= (bf16 ? kBf16Overflow : kFp16Overflow)) return false;
  bf16 ? Transform<std::uint32_t>(from, count, numbers, kToBf16)
       : Transform<std::uint32_t>(from, count, numbers, kToFp16);
  return true;
}

void Decode(Codec codec, const std::byte* numbers, const std::byte* scales, std::uint64_t tokens,
            std::uint32_t head_dim, std::byte* to) {
  assert(!IsExact(codec));
  if (codec == Codec::kBf16) {
    Transform<std::uint16_t>(numbers, tokens * head_dim, to, kFromBf16);
  } else if (codec == Codec::kFp16) {
    Transform<std::uint16_t>(numbers, tokens * head_dim, to, kFromFp16);
  } else {
    for (std::uint64_t token = 0; token < tokens; ++token) {
      const auto scale = Load<float>(scales + token * sizeof(float));
      Transform<std::int8_t>(
          numbers + token * head_dim, head_dim, to + token * head_dim * sizeof(float),
          [scale](std::int8_t number) { return static_cast<float>(number) * scale; });
    }
  }
}

}  // namespace kvr::cache
