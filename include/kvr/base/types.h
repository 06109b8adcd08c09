// Types shared by every layer.
#pragma once

#include <cstdint>
#include <vector>

namespace kvr {

// A token id of a language model or of a sentence encoder.
using Token = std::int32_t;
using Tokens = std::vector<Token>;

}  // namespace kvr
