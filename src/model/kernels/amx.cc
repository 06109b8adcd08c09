// Compiled with AVX-512 and AMX (tiles, int8, bf16) switched on: what is inline here must stay
// here.
#include <immintrin.h>

#include "instruction_sets.h"

namespace kvr::model::kernels {

#include "avx512.inc"

namespace {

// Tiles are told to the compiler by nothing but these: it keeps nothing in them, and the order.

// What LDTILECFG reads.
struct alignas(kAlign) TileConfig {
  std::uint8_t palette = 1;
  std::uint8_t start_row = 0;
  std::uint8_t reserved[14] = {};
  std::uint16_t row_bytes[16] = {};
  std::uint8_t rows[16] = {};
};

inline void LoadTileConfig(const TileConfig& config) {
  asm volatile("ldtilecfg %0" : : "m"(config));
}
// Without tiles in use the system saves none.
inline void ReleaseTiles() { asm volatile("tilerelease"); }

template <int kTile>
inline void TileZero() {
  asm volatile("tilezero %%tmm%c0" : : "i"(kTile));
}
template <int kTile>
inline void TileLoad(const void* from, std::ptrdiff_t stride) {
  asm volatile("tileloadd (%1,%2,1), %%tmm%c0" : : "i"(kTile), "r"(from), "r"(stride) : "memory");
}
template <int kTile>
inline void TileStore(void* to, std::ptrdiff_t stride) {
  asm volatile("tilestored %%tmm%c0, (%1,%2,1)" : : "i"(kTile), "r"(to), "r"(stride) : "memory");
}
// Of tiles [row][k] and [k / n][column][n], n in 32 bits: sum[row][column] += their product.
template <int kSum, int kLeft, int kRight>
inline void TileDotInt8() {
  asm volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kSum), "i"(kLeft), "i"(kRight));
}
template <int kSum, int kLeft, int kRight>
inline void TileDotBf16() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kSum), "i"(kLeft), "i"(kRight));
}

}  // namespace

#include "kernels.inc"
//
#include "linear_tiles.inc"

const Kernels kAmx = MakeTiledKernels("amx_1");

}  // namespace kvr::model::kernels
