// What the codecs' loops share.
//
// The conversions take and give bit patterns and branch nowhere, so that the compiler makes vector
// code of their loops on any processor; plain x86-64 has no instructions for halves. They are
// objects, not functions, so that each gets a loop of its own.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace kvr::cache::codecs {

inline constexpr std::uint32_t kMagnitude = 0x7FFF'FFFF;
inline constexpr std::uint32_t kInfinity = 0x7F80'0000;

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
inline std::uint32_t LargestMagnitude(const std::byte* from, std::uint64_t count) {
  std::int32_t largest = 0;  // signed: the comparison that every vector unit has
  for (std::uint64_t i = 0; i < count; ++i) {
    const auto magnitude =
        static_cast<std::int32_t>(Load<std::uint32_t>(from + i * 4) & kMagnitude);
    largest = std::max(largest, magnitude);
  }
  return static_cast<std::uint32_t>(largest);
}

}  // namespace kvr::cache::codecs
