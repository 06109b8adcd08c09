// off: everything is computed. As a recycled arm it is the null arm, which reads 1.
#pragma once

#include "kvr/engine/policy.h"

namespace kvr::engine::policies {

inline constexpr Policy kOff = {.name = "off", .by_similarity = false, .find = nullptr};

}  // namespace kvr::engine::policies
