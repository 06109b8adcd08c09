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
// fp16.
inline Vec LoadHalves(const std::uint16_t* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
inline float FromHalf(std::uint16_t half) {
  return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(half)));
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

// Element j of v[i] becomes element i of v[j].
inline void Transpose(Vec* v) {
  Vec pairs[kLanes], fours[kLanes], eights[kLanes];
#pragma GCC unroll 8
  for (int i = 0; i < kLanes; i += 2) {
    pairs[i] = _mm512_unpacklo_ps(v[i], v[i + 1]);
    pairs[i + 1] = _mm512_unpackhi_ps(v[i], v[i + 1]);
  }
  const auto low = [](Vec a, Vec b) {
    return _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
  };
  const auto high = [](Vec a, Vec b) {
    return _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
  };
  // Now fours[4 g + c] has, in each quarter q, column 4 q + c of rows 4 g to 4 g + 3.
#pragma GCC unroll 4
  for (int i = 0; i < kLanes; i += 4) {
    fours[i] = low(pairs[i], pairs[i + 2]);
    fours[i + 1] = high(pairs[i], pairs[i + 2]);
    fours[i + 2] = low(pairs[i + 1], pairs[i + 3]);
    fours[i + 3] = high(pairs[i + 1], pairs[i + 3]);
  }
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) {
    eights[c] = _mm512_shuffle_f32x4(fours[c], fours[4 + c], 0x88);           // q 0, 2
    eights[4 + c] = _mm512_shuffle_f32x4(fours[c], fours[4 + c], 0xdd);       // q 1, 3
    eights[8 + c] = _mm512_shuffle_f32x4(fours[8 + c], fours[12 + c], 0x88);  // of rows 8..15
    eights[12 + c] = _mm512_shuffle_f32x4(fours[8 + c], fours[12 + c], 0xdd);
    v[c] = _mm512_shuffle_f32x4(eights[c], eights[8 + c], 0x88);
    v[8 + c] = _mm512_shuffle_f32x4(eights[c], eights[8 + c], 0xdd);
    v[4 + c] = _mm512_shuffle_f32x4(eights[4 + c], eights[12 + c], 0x88);
    v[12 + c] = _mm512_shuffle_f32x4(eights[4 + c], eights[12 + c], 0xdd);
  }
}

inline IntVec LoadInt(const void* p) { return _mm512_loadu_si512(p); }
// Signed bytes, widened.
inline IntVec LoadBytes(const std::int8_t* p) {
  return _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
inline IntVec And(IntVec a, IntVec b) { return _mm512_and_si512(a, b); }
template <int kBits>
inline IntVec ShiftRight(IntVec a) {
  return _mm512_srli_epi32(a, kBits);
}
inline IntVec SetInt(std::int32_t x) { return _mm512_set1_epi32(x); }
inline Vec ToFloat(IntVec a) { return _mm512_cvtepi32_ps(a); }
inline IntVec ToInt(Vec a) { return _mm512_cvtps_epi32(a); }
// Each to a signed byte, which holds it.
inline void StoreBytes(std::int8_t* p, IntVec a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(a));
}
// c + the dot products of four unsigned bytes of a and four signed bytes of b, lane by lane.
inline IntVec Dot(IntVec c, IntVec a, IntVec b) { return _mm512_dpbusd_epi32(c, a, b); }

}  // namespace

#include "kernels.inc"

const Kernels kAvx512 = MakeKernels("avx512_1");

}  // namespace kvr::model::kernels
