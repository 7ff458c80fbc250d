#pragma once

#include <cstdint>

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

[[nodiscard]] const SignKernels& plain_sign_kernels();
/// Null where the build has none.
[[nodiscard]] const SignKernels* avx2_sign_kernels();
[[nodiscard]] const SignKernels* avx512_sign_kernels();

/// The best that this processor runs, within what oneDNN may use (ONEDNN_MAX_CPU_ISA).
[[nodiscard]] const SignKernels& sign_kernels();

}  // namespace kerf::engine
