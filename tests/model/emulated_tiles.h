// The kernels over tiles (AMX) with the tile instructions written out in C++, for CPUs without
// them.
#pragma once

#include "../../src/model/kernels/instruction_sets.h"

namespace kvr::model::kernels {

extern const Kernels kEmulatedTiles;  // needs AVX-512

}  // namespace kvr::model::kernels
