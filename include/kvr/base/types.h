// Types and numbers shared by every layer.
//
// Thread safety, errors, cost: none to speak of; these are plain values.
#pragma once

#include <cstdint>
#include <vector>

namespace kvr {

// Tokens of a block, the unit of prefill and storage, where nobody asks for another number.
inline constexpr int kDefaultBlockTokens = 128;
// A block's tokens are a multiple of this: libtorch's own kernels take rows so many at a time
// (PAD_ROWS of the exporter).
inline constexpr int kBlockMultiple = 4;

// A token id of a language model or of a sentence encoder.
using Token = std::int32_t;
using Tokens = std::vector<Token>;

}  // namespace kvr
