// Types shared by every layer.
#pragma once

#include <cstdint>
#include <vector>

namespace kvr {

// Tokens of a block, the unit of prefill and storage, where nobody asks for another number.
inline constexpr int kDefaultBlockTokens = 128;
// A block's tokens are a multiple of this: libtorch's own kernels take rows so many at a time
// (PAD_ROWS in scripts/kvr_export/models.py).
inline constexpr int kBlockMultiple = 4;

// A token id of a language model or of a sentence encoder.
using Token = std::int32_t;
using Tokens = std::vector<Token>;

}  // namespace kvr
