// Products of signs with AVX2: bits of bytes are counted by a table of sixteen, four words at once
// (Mula, Kurz, Lemire 2018, arXiv:1611.07612, section 4), and bytes summed up before they overflow.
#include "workers/engine/kernels/signs_isa.h"

#if defined(__x86_64__)
#include <immintrin.h>

#include <cstring>

#define KERF_TARGET __attribute__((target("avx2,popcnt")))

namespace kerf::engine {
namespace {

/// A word adds 8 at most to each byte.
constexpr std::int64_t kWordsABlock = 31;

KERF_TARGET void pack_s8(const std::int8_t* x, std::int64_t n, std::uint8_t* present, std::uint8_t* negative) {
  std::int64_t i = 0;
  for (; i + 32 <= n; i += 32) {
    const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + i));
    const auto there = ~static_cast<std::uint32_t>(_mm256_movemask_epi8(_mm256_cmpeq_epi8(bytes, _mm256_setzero_si256())));
    const auto below = static_cast<std::uint32_t>(_mm256_movemask_epi8(bytes));
    std::memcpy(present + i / 8, &there, 4);
    std::memcpy(negative + i / 8, &below, 4);
  }
  for (; i < n; i += 8) pack_few_signs(x + i, n - i < 8 ? n - i : 8, present + i / 8, negative + i / 8);
}

KERF_TARGET void pack_f32(const float* x, std::int64_t n, std::uint8_t* present, std::uint8_t* negative) {
  const __m256 zero = _mm256_setzero_ps();
  std::int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m256 v = _mm256_loadu_ps(x + i);
    present[i / 8] = static_cast<std::uint8_t>(_mm256_movemask_ps(_mm256_cmp_ps(v, zero, _CMP_NEQ_OQ)));
    negative[i / 8] = static_cast<std::uint8_t>(_mm256_movemask_ps(_mm256_cmp_ps(v, zero, _CMP_LT_OQ)));
  }
  if (i < n) pack_few_signs(x + i, n - i, present + i / 8, negative + i / 8);
}

KERF_TARGET void gather(const SignWords& words, const std::uint8_t* present, const std::uint8_t* negative, const std::int64_t* at, const SignTile& tile) {
  gather_sign_words(words, present, negative, at, tile);
}

/// Bits of each byte.
KERF_TARGET [[gnu::always_inline]] inline __m256i counted(__m256i v, __m256i table, __m256i low) {
  const __m256i few = _mm256_shuffle_epi8(table, _mm256_and_si256(v, low));
  const __m256i more = _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16(v, 4), low));
  return _mm256_add_epi8(few, more);
}

template <int kPixels>
KERF_TARGET void products(const SignTile& tile, int first, const std::uint64_t* weights, std::int64_t blocks, const SignScaling& scaling, float* y,
                          std::int64_t stride) {
  const __m256i table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
  const __m256i low = _mm256_set1_epi8(15);
  const __m256i zero = _mm256_setzero_si256();
  const std::uint64_t* present = tile.present + first * tile.words;
  const std::uint64_t* negative = tile.negative + first * tile.words;
  for (std::int64_t b = 0; b < blocks; ++b) {
    const std::int64_t left = scaling.outputs - b * 8;
    if (left <= 0) return;
    const std::uint64_t* lanes = weights + b * tile.words * 8;
    __m256i differ[kPixels][2];
    for (int p = 0; p < kPixels; ++p) differ[p][0] = differ[p][1] = zero;
    for (std::int64_t begin = 0; begin < tile.words; begin += kWordsABlock) {
      const std::int64_t end = begin + kWordsABlock < tile.words ? begin + kWordsABlock : tile.words;
      __m256i bytes[kPixels][2];
      for (int p = 0; p < kPixels; ++p) bytes[p][0] = bytes[p][1] = zero;
      for (std::int64_t w = begin; w < end; ++w) {
        const __m256i one = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(lanes + w * 8));
        const __m256i two = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(lanes + w * 8 + 4));
#pragma GCC unroll 2
        for (int p = 0; p < kPixels; ++p) {
          const __m256i there = _mm256_set1_epi64x(static_cast<std::int64_t>(present[p * tile.words + w]));
          const __m256i below = _mm256_set1_epi64x(static_cast<std::int64_t>(negative[p * tile.words + w]));
          bytes[p][0] = _mm256_add_epi8(bytes[p][0], counted(_mm256_and_si256(_mm256_xor_si256(below, one), there), table, low));
          bytes[p][1] = _mm256_add_epi8(bytes[p][1], counted(_mm256_and_si256(_mm256_xor_si256(below, two), there), table, low));
        }
      }
      for (int p = 0; p < kPixels; ++p) {
        for (int k = 0; k < 2; ++k) differ[p][k] = _mm256_add_epi64(differ[p][k], _mm256_sad_epu8(bytes[p][k], zero));
      }
    }
    // Lanes 0 to 3 and 4 to 7 are 64 bits wide each; their lower halves side by side.
    const __m256i even = _mm256_setr_epi32(0, 2, 4, 6, 0, 2, 4, 6);
    for (int p = 0; p < kPixels; ++p) {
      const __m256i halves = _mm256_blend_epi32(_mm256_permutevar8x32_epi32(differ[p][0], even), _mm256_permutevar8x32_epi32(differ[p][1], even), 0xF0);
      __m256i sum = _mm256_sub_epi32(_mm256_set1_epi32(tile.totals[first + p]), _mm256_slli_epi32(halves, 1));
      if (scaling.alive != nullptr) sum = _mm256_and_si256(sum, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(scaling.alive + b * 8)));
      __m256 v = _mm256_mul_ps(_mm256_cvtepi32_ps(sum), _mm256_loadu_ps(scaling.scales + b * 8));
      if (scaling.bias != nullptr) v = _mm256_add_ps(v, _mm256_loadu_ps(scaling.bias + b * 8));
      float* to = y + (first + p) * stride + b * 8;
      if (left >= 8) {
        _mm256_storeu_ps(to, v);
      } else {
        float all[8];
        _mm256_storeu_ps(all, v);
        std::memcpy(to, all, static_cast<std::size_t>(left) * sizeof(float));
      }
    }
  }
}

void multiply(const SignTile& tile, const std::uint64_t* weights, std::int64_t blocks, const SignScaling& scaling, float* y, std::int64_t stride) {
  if (tile.pixels == 1) return products<1>(tile, 0, weights, blocks, scaling, y, stride);
  for (int p = 0; p < tile.pixels; p += 2) products<2>(tile, p, weights, blocks, scaling, y, stride);
}

constexpr SignKernels kKernels{"avx2", pack_s8, pack_f32, gather, multiply};

}  // namespace

const SignKernels* avx2_sign_kernels() { return &kKernels; }

}  // namespace kerf::engine

#else

namespace kerf::engine {
const SignKernels* avx2_sign_kernels() { return nullptr; }
}  // namespace kerf::engine

#endif
