// fp32: the buffer's bytes.
#pragma once

#include "kvr/cache/codec.h"

namespace kvr::cache::codecs {

inline constexpr Codec kFp32 = {.name = "fp32",
                                .element = "F32",
                                .element_bytes = 4,
                                .scale_bytes = 0,
                                .encode = nullptr,
                                .decode = nullptr};

}  // namespace kvr::cache::codecs
