// Private to the kernels: one table for each instruction set.
#pragma once

#include "kernels.h"

namespace kvr::model::kernels {

extern const Kernels kAvx512;
extern const Kernels kAvx2;

}  // namespace kvr::model::kernels
