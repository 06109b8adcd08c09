// Private to the kernels: one table for each instruction set, and which of them run here.
#pragma once

#include <span>

#include "kernels.h"

namespace kvr::model::kernels {

extern const Kernels kAmx;  // AVX-512 with tiles for bf16 and int8
extern const Kernels kAvx512;
extern const Kernels kAvx2;

// Those that this CPU and its system can run, best first; may be empty. The first call asks the
// system for the use of tiles, for the whole process.
[[nodiscard]] std::span<const Kernels* const> Supported();

}  // namespace kvr::model::kernels
