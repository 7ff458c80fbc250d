#pragma once

#include <cstdint>
#include <cstring>

namespace kerf::engine {

/// Where a window's words lie in a plane of bits: in pieces of up to eight that lie side by side.
struct SignWords {
  const std::int64_t* offsets;  ///< [pieces] In bytes from the window's first pixel.
  const std::int64_t* sizes;    ///< [pieces] Words.
  const std::uint64_t* masks;   ///< [pieces][8] Of the bits that are the window's; 0 beyond the size.
  std::int64_t pieces;
};

/// The words of a few windows: [pixels][words] each, with room for eight more behind them.
struct SignTile {
  std::uint64_t* present;
  std::uint64_t* negative;
  std::int32_t* totals;  ///< Bits of `present`, a window.
  std::int64_t words;
  int pixels;            ///< 1, 2 or 4.
};

/// What becomes of sums. The arrays are padded to whole pairs of blocks of eight.
struct SignScaling {
  const float* scales;
  const float* bias;           ///< May be null.
  const std::int32_t* alive;   ///< 0 where the sum is 0 whatever comes, else -1; may be null.
  std::int64_t outputs;        ///< That are written.
};

/// What an instruction set brings to products of signs (signs.h).
struct SignKernels {
  const char* name;  ///< "avx512_vpopcntdq", "avx2", "plain".
  /// n inputs as bits: the i-th in bit i % 8 of byte i / 8 of each plane, the last byte filled with 0.
  void (*pack_s8)(const std::int8_t* x, std::int64_t n, std::uint8_t* present, std::uint8_t* negative);
  void (*pack_f32)(const float* x, std::int64_t n, std::uint8_t* present, std::uint8_t* negative);
  /// The words of the tile's windows, whose first pixels lie at these bytes of the planes; reads up to 64 bytes
  /// beyond a window.
  void (*gather)(const SignWords& words, const std::uint8_t* present, const std::uint8_t* negative, const std::int64_t* at, const SignTile& tile);
  /// y[pixel * stride + output] = sum * scale + bias. weights [blocks][words][8], an even number of blocks.
  void (*multiply)(const SignTile& tile, const std::uint64_t* weights, std::int64_t blocks, const SignScaling& scaling, float* y, std::int64_t stride);
};

// What all versions do alike where their vectors are too long: compiled anew for the instructions of
// each that calls it.

/// Less than eight inputs, or eight, as the bits of one byte of each plane.
template <class T>
[[gnu::always_inline]] inline void pack_few_signs(const T* x, std::int64_t n, std::uint8_t* present, std::uint8_t* negative) {
  unsigned there = 0;
  unsigned below = 0;
  for (std::int64_t k = 0; k < n; ++k) {
    const bool less = x[k] < T{0};
    const bool more = x[k] > T{0};
    there |= static_cast<unsigned>(less || more) << static_cast<unsigned>(k);
    below |= static_cast<unsigned>(less) << static_cast<unsigned>(k);
  }
  *present = static_cast<std::uint8_t>(there);
  *negative = static_cast<std::uint8_t>(below);
}

/// SignKernels::gather, word by word.
[[gnu::always_inline]] inline void gather_sign_words(const SignWords& words, const std::uint8_t* present, const std::uint8_t* negative, const std::int64_t* at, const SignTile& tile) {
  std::uint64_t* there = tile.present;
  std::uint64_t* below = tile.negative;
  for (int p = 0; p < tile.pixels; ++p) {
    std::int64_t total = 0;
    for (std::int64_t piece = 0; piece < words.pieces; ++piece) {
      const std::int64_t from = at[p] + words.offsets[piece];
      for (std::int64_t w = 0; w < words.sizes[piece]; ++w) {
        std::uint64_t word = 0;
        std::memcpy(&word, present + from + w * 8, 8);
        std::memcpy(below++, negative + from + w * 8, 8);
        word &= words.masks[piece * 8 + w];
        *there++ = word;
        total += __builtin_popcountll(word);
      }
    }
    tile.totals[p] = static_cast<std::int32_t>(total);
  }
}

[[nodiscard]] const SignKernels& plain_sign_kernels();
/// Null where the build has none.
[[nodiscard]] const SignKernels* avx2_sign_kernels();
[[nodiscard]] const SignKernels* avx512_sign_kernels();

/// The best that this processor runs, within what oneDNN may use (ONEDNN_MAX_CPU_ISA).
[[nodiscard]] const SignKernels& sign_kernels();

}  // namespace kerf::engine
