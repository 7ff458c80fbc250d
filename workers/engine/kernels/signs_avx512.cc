// Products of signs with AVX-512: VPOPCNTQ counts eight words at once, masks are bits already.
#include "workers/engine/kernels/signs_isa.h"

#if defined(__x86_64__)
#include <immintrin.h>

#include <cstring>

#define KERF_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vpopcntdq,popcnt")))

namespace kerf::engine {
namespace {

/// The first `bytes` bytes of each word of bits.
KERF_TARGET inline void store(std::uint64_t there, std::uint64_t below, std::size_t bytes, std::uint8_t* present, std::uint8_t* negative) {
  if (bytes == 8) {
    std::memcpy(present, &there, 8);
    std::memcpy(negative, &below, 8);
  } else {
    std::memcpy(present, &there, bytes);
    std::memcpy(negative, &below, bytes);
  }
}

KERF_TARGET void pack_s8(const std::int8_t* x, std::int64_t n, std::uint8_t* present, std::uint8_t* negative) {
  for (std::int64_t i = 0; i < n; i += 64) {
    const std::int64_t left = n - i < 64 ? n - i : 64;
    const __mmask64 mask = ~0ULL >> (64 - left);
    const __m512i bytes = _mm512_maskz_loadu_epi8(mask, x + i);
    store(_mm512_test_epi8_mask(bytes, bytes), _mm512_movepi8_mask(bytes), static_cast<std::size_t>(left + 7) / 8, present + i / 8, negative + i / 8);
  }
}

KERF_TARGET void pack_f32(const float* x, std::int64_t n, std::uint8_t* present, std::uint8_t* negative) {
  const __m512 zero = _mm512_setzero_ps();
  for (std::int64_t i = 0; i < n; i += 64) {
    const std::int64_t left = n - i < 64 ? n - i : 64;
    std::uint64_t there = 0;
    std::uint64_t below = 0;
    for (std::int64_t k = 0; k < left; k += 16) {
      const auto mask = static_cast<__mmask16>(left - k >= 16 ? 0xFFFFU : (1U << (left - k)) - 1U);
      const __m512 v = _mm512_maskz_loadu_ps(mask, x + i + k);
      there |= static_cast<std::uint64_t>(_mm512_cmp_ps_mask(v, zero, _CMP_NEQ_OQ)) << k;
      below |= static_cast<std::uint64_t>(_mm512_cmp_ps_mask(v, zero, _CMP_LT_OQ)) << k;
    }
    store(there, below, static_cast<std::size_t>(left + 7) / 8, present + i / 8, negative + i / 8);
  }
}

/// Word by word, where pieces are short.
KERF_TARGET void gather_short(const SignWords& words, const std::uint8_t* present, const std::uint8_t* negative, const std::int64_t* at, const SignTile& tile) {
  gather_sign_words(words, present, negative, at, tile);
}

KERF_TARGET void gather_long(const SignWords& words, const std::uint8_t* present, const std::uint8_t* negative, const std::int64_t* at, const SignTile& tile) {
  for (int p = 0; p < tile.pixels; ++p) {
    std::uint64_t* there = tile.present + p * tile.words;
    std::uint64_t* below = tile.negative + p * tile.words;
    __m512i total = _mm512_setzero_si512();
    for (std::int64_t piece = 0; piece < words.pieces; ++piece) {
      const std::int64_t from = at[p] + words.offsets[piece];
      const __m512i word = _mm512_and_si512(_mm512_loadu_si512(present + from), _mm512_loadu_si512(words.masks + piece * 8));
      total = _mm512_add_epi64(total, _mm512_popcnt_epi64(word));
      // What lies beyond the piece is written over by the next one.
      _mm512_storeu_si512(there, word);
      _mm512_storeu_si512(below, _mm512_loadu_si512(negative + from));
      there += words.sizes[piece];
      below += words.sizes[piece];
    }
    tile.totals[p] = static_cast<std::int32_t>(_mm512_reduce_add_epi64(total));
  }
}

void gather(const SignWords& words, const std::uint8_t* present, const std::uint8_t* negative, const std::int64_t* at, const SignTile& tile) {
  if (words.sizes[0] <= 2) gather_short(words, present, negative, at, tile);
  else gather_long(words, present, negative, at, tile);
}

/// Keeps a broadcast in its register: GCC would load it again for each operation.
KERF_TARGET [[gnu::always_inline]] inline __m512i everywhere(std::uint64_t word) {
  __m512i v = _mm512_set1_epi64(static_cast<std::int64_t>(word));
  asm("" : "+v"(v));
  return v;
}

/// Some blocks of eight outputs for all windows of the tile stay in registers over all words.
template <int kPixels, int kBlocks>
KERF_TARGET void products(const SignTile& tile, const std::uint64_t* weights, std::int64_t first, const SignScaling& scaling, float* y, std::int64_t stride) {
  const std::int64_t words = tile.words;
  weights += first * words * 8;
  __m512i differ[kPixels][kBlocks];
#pragma GCC unroll 4
  for (int p = 0; p < kPixels; ++p) {
#pragma GCC unroll 4
    for (int k = 0; k < kBlocks; ++k) differ[p][k] = _mm512_setzero_si512();
  }
  for (std::int64_t w = 0; w < words; ++w) {
    __m512i lanes[kBlocks];
#pragma GCC unroll 4
    for (int k = 0; k < kBlocks; ++k) lanes[k] = _mm512_loadu_si512(weights + (k * words + w) * 8);
#pragma GCC unroll 4
    for (int p = 0; p < kPixels; ++p) {
      const __m512i there = everywhere(tile.present[p * words + w]);
      const __m512i below = everywhere(tile.negative[p * words + w]);
#pragma GCC unroll 4
      for (int k = 0; k < kBlocks; ++k) {
        // (below ^ lanes) & there
        const __m512i bits = _mm512_ternarylogic_epi64(below, lanes[k], there, 0x28);
        differ[p][k] = _mm512_add_epi64(differ[p][k], _mm512_popcnt_epi64(bits));
      }
    }
  }
#pragma GCC unroll 4
  for (int k = 0; k < kBlocks; ++k) {
    const std::int64_t o = (first + k) * 8;
    const std::int64_t left = scaling.outputs - o;
    if (left <= 0) return;
    const auto mask = static_cast<__mmask8>(left >= 8 ? 0xFFU : (1U << left) - 1U);
    const __m256 scale = _mm256_loadu_ps(scaling.scales + o);
#pragma GCC unroll 4
    for (int p = 0; p < kPixels; ++p) {
      __m256i sum = _mm256_sub_epi32(_mm256_set1_epi32(tile.totals[p]), _mm256_slli_epi32(_mm512_maskz_cvtepi64_epi32(0xFF, differ[p][k]), 1));
      if (scaling.alive != nullptr) sum = _mm256_and_si256(sum, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(scaling.alive + o)));
      __m256 v = _mm256_mul_ps(_mm256_cvtepi32_ps(sum), scale);
      if (scaling.bias != nullptr) v = _mm256_add_ps(v, _mm256_loadu_ps(scaling.bias + o));
      _mm256_mask_storeu_ps(y + p * stride + o, mask, v);
    }
  }
}

template <int kPixels>
void products_for(const SignTile& tile, const std::uint64_t* weights, std::int64_t blocks, const SignScaling& scaling, float* y, std::int64_t stride) {
  std::int64_t b = 0;
  for (; b + 4 <= blocks; b += 4) products<kPixels, 4>(tile, weights, b, scaling, y, stride);
  if (b < blocks) products<kPixels, 2>(tile, weights, b, scaling, y, stride);
}

void multiply(const SignTile& tile, const std::uint64_t* weights, std::int64_t blocks, const SignScaling& scaling, float* y, std::int64_t stride) {
  if (tile.pixels == 4) products_for<4>(tile, weights, blocks, scaling, y, stride);
  else if (tile.pixels == 2) products_for<2>(tile, weights, blocks, scaling, y, stride);
  else products_for<1>(tile, weights, blocks, scaling, y, stride);
}

constexpr SignKernels kKernels{"avx512_vpopcntdq", pack_s8, pack_f32, gather, multiply};

}  // namespace

const SignKernels* avx512_sign_kernels() { return &kKernels; }

}  // namespace kerf::engine

#else

namespace kerf::engine {
const SignKernels* avx512_sign_kernels() { return nullptr; }
}  // namespace kerf::engine

#endif
