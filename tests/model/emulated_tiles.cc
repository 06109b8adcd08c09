// Compiled as avx512.cc is. The instructions are as Intel's manual describes them (volume 2,
// "TDPBF16PS", "TDPBSSD", "LDTILECFG"); where a CPU has them, TilesTest compares the two.
#include "emulated_tiles.h"

#include <immintrin.h>

#include <array>
#include <cfloat>
#include <cmath>
#include <cstring>

namespace kvr::model::kernels {

#include "../../src/model/kernels/avx512.inc"

namespace {

struct TileConfig {
  std::array<int, 8> row_bytes{}, rows{};
};

struct EmulatedTile {
  int rows, row_bytes;
  std::array<std::array<std::byte, 64>, 16> data;
};
thread_local std::array<EmulatedTile, 8> tiles;

template <typename T>
T At(const EmulatedTile& tile, int row, int column) {
  T value;
  std::memcpy(&value, &tile.data[row][column * sizeof(T)], sizeof(T));
  return value;
}

template <typename T>
void Put(EmulatedTile* tile, int row, int column, T value) {
  std::memcpy(&tile->data[row][column * sizeof(T)], &value, sizeof(T));
}

void LoadTileConfig(const TileConfig& config) {
  for (int i = 0; i < 8; ++i) tiles[i] = {config.rows[i], config.row_bytes[i], {}};
}
// What is used afterwards without a configuration gives nothing.
void ReleaseTiles() { LoadTileConfig({}); }

template <int kTile>
void TileZero() {
  tiles[kTile].data = {};
}

template <int kTile>
void TileLoad(const void* from, std::ptrdiff_t stride) {
  EmulatedTile& tile = tiles[kTile];
  tile.data = {};
  for (int r = 0; r < tile.rows; ++r) {
    std::memcpy(tile.data[r].data(), static_cast<const std::byte*>(from) + r * stride,
                static_cast<std::size_t>(tile.row_bytes));
  }
}

template <int kTile>
void TileStore(void* to, std::ptrdiff_t stride) {
  const EmulatedTile& tile = tiles[kTile];
  for (int r = 0; r < tile.rows; ++r) {
    std::memcpy(static_cast<std::byte*>(to) + r * stride, tile.data[r].data(),
                static_cast<std::size_t>(tile.row_bytes));
  }
}

template <int kSum, int kLeft, int kRight>
void TileDotInt8() {
  EmulatedTile& sum = tiles[kSum];
  const EmulatedTile &left = tiles[kLeft], &right = tiles[kRight];
  for (int m = 0; m < sum.rows; ++m) {
    for (int k = 0; k < left.row_bytes / 4; ++k) {
      for (int n = 0; n < sum.row_bytes / 4; ++n) {
        auto total = At<std::int32_t>(sum, m, n);
        for (int i = 0; i < 4; ++i) {
          total += At<std::int8_t>(left, m, 4 * k + i) * At<std::int8_t>(right, k, 4 * n + i);
        }
        Put(&sum, m, n, total);
      }
    }
  }
}

// Numbers too small for a float's full precision count as zeros.
float Flush(float x) { return std::abs(x) < FLT_MIN ? std::copysign(0.F, x) : x; }

float FromBf16(const EmulatedTile& tile, int row, int column) {
  const std::uint32_t bits = std::uint32_t{At<std::uint16_t>(tile, row, column)} << 16;
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return Flush(value);
}

template <int kSum, int kLeft, int kRight>
void TileDotBf16() {
  EmulatedTile& sum = tiles[kSum];
  const EmulatedTile &left = tiles[kLeft], &right = tiles[kRight];
  for (int m = 0; m < sum.rows; ++m) {
    std::array<float, 32> parts{};  // of a column's even inputs, of its odd ones
    for (int k = 0; k < left.row_bytes / 4; ++k) {
      for (int i = 0; i < sum.row_bytes / 2; ++i) {
        parts[i] =
            Flush(std::fma(FromBf16(left, m, 2 * k + i % 2), FromBf16(right, k, i), parts[i]));
      }
    }
    for (int n = 0; n < sum.row_bytes / 4; ++n) {
      const float both = Flush(parts[2 * n] + parts[2 * n + 1]);
      Put(&sum, m, n, Flush(Flush(At<float>(sum, m, n)) + both));
    }
  }
}

}  // namespace

#include "../../src/model/kernels/kernels.inc"
//
#include "../../src/model/kernels/linear_tiles.inc"

const Kernels kEmulatedTiles = MakeTiledKernels("emulated_tiles");

}  // namespace kvr::model::kernels
