// Private to the view's files.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "kvr/base/types.h"

namespace kvr::cache {

inline std::uint32_t Size(std::span<const Token> tokens) {
  return static_cast<std::uint32_t>(tokens.size());
}

inline std::uint32_t CommonPrefix(std::span<const Token> a, std::span<const Token> b) {
  return static_cast<std::uint32_t>(std::ranges::mismatch(a, b).in1 - a.begin());
}

}  // namespace kvr::cache
