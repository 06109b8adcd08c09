// Compiled with AVX2 and FMA switched on: what is inline here must stay here.
#include <immintrin.h>

#include "instruction_sets.h"

namespace kvr::model::kernels {

namespace {

constexpr int kLanes = 8;
constexpr int kRowTile = 6;      // 12 sums, 2 panels' vectors, 1 broadcast: 15 of 16 registers
constexpr int kRowTileInt8 = 2;  // 4 integer and 4 float sums, and what Dot needs
constexpr int kKeyTile = 6;
constexpr int kValueRows = 3;
constexpr int kValueVectors = 4;

using Vec = __m256;
using IntVec = __m256i;
using Mask = __m256;

inline Vec Load(const float* p) { return _mm256_loadu_ps(p); }
// bf16 is the upper half of a float.
inline Vec Load(const std::uint16_t* p) {
  const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}
// fp16.
inline Vec LoadHalves(const std::uint16_t* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
inline float FromHalf(std::uint16_t half) {
  return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(half)));
}
inline void Store(float* p, Vec v) { _mm256_storeu_ps(p, v); }
inline Vec Set(float x) { return _mm256_set1_ps(x); }
inline Vec Fma(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }
inline Vec Max(Vec a, Vec b) { return _mm256_max_ps(a, b); }
inline Vec Min(Vec a, Vec b) { return _mm256_min_ps(a, b); }
inline Vec Abs(Vec a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0F), a); }
inline Vec Round(Vec a) {
  return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
inline Mask Less(Vec a, Vec b) { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
inline Vec Select(Mask m, Vec yes, Vec no) { return _mm256_blendv_ps(no, yes, m); }
inline float Sum(Vec a) {
  __m128 x = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  x = _mm_add_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}
inline float Largest(Vec a) {
  __m128 x = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  x = _mm_max_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
}
// a * 2^n for whole n of -126 to 127.
inline Vec Scale(Vec a, Vec n) {
  const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
  return _mm256_mul_ps(a, _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23)));
}

// Element j of v[i] becomes element i of v[j].
inline void Transpose(Vec* v) {
  Vec pairs[kLanes], fours[kLanes];
#pragma GCC unroll 4
  for (int i = 0; i < kLanes; i += 2) {
    pairs[i] = _mm256_unpacklo_ps(v[i], v[i + 1]);
    pairs[i + 1] = _mm256_unpackhi_ps(v[i], v[i + 1]);
  }
  // Now fours[4 g + c] has, in each half q, column 4 q + c of rows 4 g to 4 g + 3.
#pragma GCC unroll 2
  for (int i = 0; i < kLanes; i += 4) {
    fours[i] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], 0x44);
    fours[i + 1] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], 0xee);
    fours[i + 2] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], 0x44);
    fours[i + 3] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], 0xee);
  }
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) {
    v[c] = _mm256_permute2f128_ps(fours[c], fours[4 + c], 0x20);
    v[4 + c] = _mm256_permute2f128_ps(fours[c], fours[4 + c], 0x31);
  }
}

inline IntVec LoadInt(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
// Signed bytes, widened.
inline IntVec LoadBytes(const std::int8_t* p) {
  return _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
}
inline IntVec And(IntVec a, IntVec b) { return _mm256_and_si256(a, b); }
template <int kBits>
inline IntVec ShiftRight(IntVec a) {
  return _mm256_srli_epi32(a, kBits);
}
inline IntVec SetInt(std::int32_t x) { return _mm256_set1_epi32(x); }
inline Vec ToFloat(IntVec a) { return _mm256_cvtepi32_ps(a); }
inline IntVec ToInt(Vec a) { return _mm256_cvtps_epi32(a); }
// Each to a signed byte, which holds it.
inline void StoreBytes(std::int8_t* p, IntVec a) {
  const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(words, words));
}
// c + the dot products of four unsigned bytes of a and four signed bytes of b, lane by lane: even
// and odd bytes widened to 16 bits, since the 8-bit product saturates.
inline IntVec Dot(IntVec c, IntVec a, IntVec b) {
  const __m256i low = _mm256_set1_epi16(0xff);
  const __m256i even =
      _mm256_madd_epi16(_mm256_and_si256(a, low), _mm256_srai_epi16(_mm256_slli_epi16(b, 8), 8));
  const __m256i odd = _mm256_madd_epi16(_mm256_srli_epi16(a, 8), _mm256_srai_epi16(b, 8));
  return _mm256_add_epi32(c, _mm256_add_epi32(even, odd));
}

}  // namespace

#include "kernels.inc"

const Kernels kAvx2 = MakeKernels("avx2_1");

}  // namespace kvr::model::kernels
