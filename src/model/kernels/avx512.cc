// Compiled with AVX-512 (F, BW, DQ, VL, VNNI) switched on: what is inline here must stay here.
#include <immintrin.h>

#include "instruction_sets.h"

namespace kvr::model::kernels {

#include "avx512.inc"
//
#include "kernels.inc"

const Kernels kAvx512 = MakeKernels("avx512_1");

}  // namespace kvr::model::kernels
