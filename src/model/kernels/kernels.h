// The networks' arithmetic on the CPU, written so that a row's bits depend on nothing but the row:
// every output is one chain of fused multiply-adds in a fixed order (of bf16 in tiles: of sums of
// pairs, as the instruction has them), however many rows are computed with it, and attention reads
// each row's own keys only. Recycling at any depth, and decoding, are
// thereby exact by construction; LanguageModel::RunProbe checks it all the same.
//
// Built once for each instruction set from kernels.inc, which names a file for each kind of
// operation; Best() picks at run time. Calls run on the caller's thread; the operators divide the
// work (operators.h).
//
// Thread safety: stateless; concurrent calls may share what they only read, and must not share
// outputs, scratch or, within attend's two steps, rows. Errors: none; operators check shapes first.
#pragma once

#include <cstddef>
#include <cstdint>

namespace kvr::model::kernels {

// A weight [outputs, inputs] lies in panels of this many outputs, the last one filled with zeros:
// fp32 and bf16 as [panel][input][output in panel], int8 as
// [panel][input / 4][output in panel][4 inputs] (4 is kDotInputs). Of the numbers of quantized
// files, which stand for scale * number + low, those of 8 bits as [panel][input][output in panel],
// those of 4 as [panel][group of 32][word of 4][output in panel][32 bits], where nibble i of word w
// is input 4 i + w of the group. The exporter writes them so.
inline constexpr int kPanel = 32;
// Rows of floats have a multiple of this many: whole vectors of the widest instruction set.
inline constexpr int kWidthMultiple = 16;
// Bytes: a cache line, and the widest vector.
inline constexpr int kAlign = 64;
// int8: so many inputs of one output share a scale; as many of one row of the left side, too.
inline constexpr int kGroup = 32;
// int8: so many inputs of one output lie together, as one 32-bit lane of a dot product.
inline constexpr int kDotInputs = 4;
// int8: added to the left side's values, since the dot product takes unsigned bytes there.
inline constexpr int kZero = 128;

// kSource4, kSource8: a quantized file's own numbers, computed with as the fp32 values that they
// are.
enum class WeightType { kFp32, kBf16, kInt8, kSource4, kSource8 };

// [panel][group][output in panel] of halves (fp16) or floats; without values they are all 0.
struct SourcePlane {
  const void* values;
  bool halves;
};

enum class Activation {
  kNone,
  kGeluTanh,  // GPT-2
  kGelu,      // BERT
  // Of each panel, the first half is the gate g and the second u: silu(g) * u, half as wide.
  kSiluMultiply,
};

// out = activation(x W^T + bias) + residual
struct Linear {
  const float* x;  // [rows, inputs]
  int rows, inputs, outputs;
  WeightType type;
  const void* weight;
  const float* scales;          // int8: [panel][group][output in panel]
  const std::int32_t* offsets;  // int8, as scales: -kZero times the sum of the group's weights
  SourcePlane source_scales, source_lows;  // kSource*; a group is `source_group` inputs
  int source_group;
  const float* bias;      // [outputs], or null
  const float* residual;  // as out, or null
  float* out;             // [rows, outputs], or half as wide
  Activation activation;
  std::byte* packed_x;  // PackedBytes() of scratch, shared by all threads
};

// Causal attention of rows past..past+count-1 over one layer's keys and values.
struct Attention {
  float* qkv;  // [count, heads + 2 * kv_heads, head_dim]; queries and keys are rotated in place
  const float *cos, *sin;  // rows past.. of [*, head_dim]; null: no rotation
  float *keys, *values;    // [kv_heads, capacity, head_dim]
  float* out;              // [count, heads, head_dim]
  int heads, kv_heads, head_dim, capacity, past, count;
  bool causal;  // else every row sees all `past + count` keys
};

struct Kernels {
  // Instruction set and version of the arithmetic. It is part of the cache key: a change that can
  // alter a bit raises the number, so that no older value is ever restored beside a new one.
  const char* name;
  int query_tile;  // queries (heads of a group times rows) that AttendTile takes

  // Scratch for the left side of a product: for all of it, and for one thread.
  std::size_t (*packed_bytes)(const Linear&);
  std::size_t (*panel_scratch_bytes)(const Linear&);
  int (*row_tiles)(const Linear&);
  // First every tile of rows is packed, then all panels can be computed, in whatever parts.
  void (*pack_rows)(const Linear&, int tile);
  void (*panels)(const Linear&, int first, int last, std::byte* scratch);

  // out[i] = (x[i] - mean) / sqrt(variance + eps) * weight[i] + bias[i]; without bias, RMSNorm.
  void (*norm)(const float* x, int width, const float* weight, const float* bias, float eps,
               float* out);

  // First every row is stored, then every tile can be attended.
  void (*store_row)(const Attention&, int row);
  std::size_t (*attend_scratch_bytes)(const Attention&);
  void (*attend_tile)(const Attention&, int kv_head, int tile, std::byte* scratch);

  // Row `id` of a packed weight, as floats.
  void (*unpack_row)(const Linear&, std::int64_t id, float* out);
};

// The kernels for this CPU, as instruction_sets.h chooses them, or null when it lacks AVX2 and FMA.
[[nodiscard]] const Kernels* Best();

}  // namespace kvr::model::kernels
