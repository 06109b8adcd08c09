// Compiled with AVX-512 (F, BW, DQ, VL, VNNI) switched on: what is inline here must stay here.
#include <immintrin.h>

#include "instruction_sets.h"

namespace kvr::model::kernels {

namespace {

constexpr int kLanes = 16;
constexpr int kRowTile = 14;     // 28 sums, 2 panels' vectors, 1 broadcast: 31 of 32 registers
constexpr int kRowTileInt8 = 6;  // 12 integer and 12 float sums
constexpr int kKeyTile = 12;
constexpr int kValueRows = 6;
constexpr int kValueVectors = 4;

using Vec = __m512;
using IntVec = __m512i;
using Mask = __mmask16;

inline Vec Load(const float* p) { return _mm512_loadu_ps(p); }
// bf16 is the upper half of a float.
inline Vec Load(const std::uint16_t* p) {
  const __m512i wide =
      _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}
inline void Store(float* p, Vec v) { _mm512_storeu_ps(p, v); }
inline Vec Set(float x) { return _mm512_set1_ps(x); }
inline Vec Fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
inline Vec Max(Vec a, Vec b) { return _mm512_max_ps(a, b); }
inline Vec Min(Vec a, Vec b) { return _mm512_min_ps(a, b); }
inline Vec Abs(Vec a) { return _mm512_abs_ps(a); }
inline Vec Round(Vec a) { return _mm512_roundscale_ps(a, 0x08); }
inline Mask Less(Vec a, Vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
inline Vec Select(Mask m, Vec yes, Vec no) { return _mm512_mask_blend_ps(m, no, yes); }
inline float Sum(Vec a) { return _mm512_reduce_add_ps(a); }
inline float Largest(Vec a) { return _mm512_reduce_max_ps(a); }
// a * 2^n for whole n.
inline Vec Scale(Vec a, Vec n) { return _mm512_scalef_ps(a, n); }

inline IntVec LoadInt(const void* p) { return _mm512_loadu_si512(p); }
inline IntVec SetInt(std::int32_t x) { return _mm512_set1_epi32(x); }
inline Vec ToFloat(IntVec a) { return _mm512_cvtepi32_ps(a); }
inline IntVec ToInt(Vec a) { return _mm512_cvtps_epi32(a); }
inline void StoreInt(std::int32_t* p, IntVec a) { _mm512_storeu_si512(p, a); }
// c + the dot products of four unsigned bytes of a and four signed bytes of b, lane by lane.
inline IntVec Dot(IntVec c, IntVec a, IntVec b) { return _mm512_dpbusd_epi32(c, a, b); }

}  // namespace

#include "kernels.inc"

const Kernels kAvx512 = MakeKernels("avx512_1");

}  // namespace kvr::model::kernels
