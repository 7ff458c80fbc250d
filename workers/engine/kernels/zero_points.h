#pragma once

#include <array>
#include <cstdint>

namespace kerf::engine {

/// What convolutions of integers need where the library knows no zero point, or isn't exact with one.

/// y[p, c] = sums[p] * factors[c].
struct Spreading {
  std::int64_t pixels = 0, channels = 0;
  int threads = 1;
};
void spread(const Spreading& what, const float* sums, const float* factors, float* y);

/// y = x ^ flip: 0x80 makes s8 of u8, 128 below it, and the other way round.
struct Flip {
  std::int64_t elements = 0;
  std::uint8_t flip = 0x80;
  int threads = 1;
};
void flip_bytes(const Flip& what, const std::uint8_t* x, std::uint8_t* y);

/// Images of bytes in channels-last order with a border of zero points around each, as u8.
///
/// Shapes:   x [batch, in…, channels] -> y [batch, before + in + after…, channels].
/// Maths:    y = x ^ flip; the border is `zero`. flip of 0x80 makes u8 of s8, 128 above it.
struct Border {
  std::int64_t batch = 0, channels = 0;
  std::array<std::int64_t, 3> in{1, 1, 1}, before{}, after{};  ///< Depth, height, width.
  std::uint8_t flip = 0;
  int threads = 1;
};
void add_border(const Border& what, const std::uint8_t* x, std::uint8_t zero, std::uint8_t* y);

/// A convolution's sums of x * w, made those of (x - x_zero) * (w - w_zero).
///
/// Shapes:   y [pixels, channels]; w_sums and w_zeros [channels]; x_sums [pixels, groups], the sums of x
///           over each window (null where all w_zeros are 0).
/// Maths:    y -= x_zero * (w_sums - w_zeros * depth) + w_zeros * x_sums; wraps around.
struct ZeroPoints {
  std::int64_t pixels = 0, channels = 0, groups = 1;
  std::int64_t depth = 0;  ///< Products a sum.
  int threads = 1;
};
void correct_sums(const ZeroPoints& what, const std::int32_t* w_sums, const std::int32_t* w_zeros,
                  const std::int32_t* x_sums, std::int32_t x_zero, std::int32_t* y);

/// y = 2 * high + low, which wraps around.
struct Doubling {
  std::int64_t elements = 0;
  int threads = 1;
};
void add_doubled(const Doubling& what, const std::int32_t* high, const std::int32_t* low, std::int32_t* y);

}  // namespace kerf::engine
