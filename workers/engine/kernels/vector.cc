#include "workers/engine/kernels/vector.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "workers/engine/kernels/fast_math.h"

namespace kerf::engine::vector {
namespace {

/// Saturated before rounding, so that the rounding trick holds for every x.
KERF_INLINE float saturated(float q, float low, float high) {
  q = q > low ? q : low;
  return q < high ? q : high;
}

/// QuantizeLinear divides. The product with the reciprocal is off by three roundings at most, less
/// than kDoubt below 256 steps, and so rounds to the same integer unless it lies that near to the
/// middle between two: the few pieces in which one does are divided. A division costs ten products.
constexpr float kDoubt = 0.5F - 6e-5F;
constexpr std::size_t kPiece = 256;

template <class T>
KERF_INLINE void quantize(const float* from, std::size_t n, float scale, float zero, T* to, float low, float high) {
  const float inverse = 1.0F / scale;
  low -= zero;
  high -= zero;
  for (std::size_t start = 0; start < n; start += kPiece) {
    const std::size_t end = start + kPiece < n ? start + kPiece : n;
    std::int32_t doubtful = 0;
    for (std::size_t i = start; i < end; ++i) {
      const float q = saturated(from[i] * inverse, low, high);
      const float r = round_even(q);
      const float off = q - r;
      doubtful |= static_cast<std::int32_t>(off > kDoubt) | static_cast<std::int32_t>(off < -kDoubt);
      to[i] = static_cast<T>(static_cast<std::int32_t>(r + zero));
    }
    if (doubtful == 0) continue;
    for (std::size_t i = start; i < end; ++i) {
      to[i] = static_cast<T>(static_cast<std::int32_t>(round_even(saturated(from[i] / scale, low, high)) + zero));
    }
  }
}

}  // namespace

KERF_VECTORIZED void load_f32(const float* from, std::size_t n, float* to) {
  for (std::size_t i = 0; i < n; ++i) to[i] = from[i];
}
KERF_VECTORIZED void load_bf16(const std::uint16_t* from, std::size_t n, float* to) {
  for (std::size_t i = 0; i < n; ++i) to[i] = std::bit_cast<float>(static_cast<std::uint32_t>(from[i]) << 16U);
}
KERF_VECTORIZED void load_u8(const std::uint8_t* from, std::size_t n, float scale, float zero, float* to) {
  for (std::size_t i = 0; i < n; ++i) to[i] = (static_cast<float>(from[i]) - zero) * scale;
}
KERF_VECTORIZED void load_s8(const std::int8_t* from, std::size_t n, float scale, float zero, float* to) {
  for (std::size_t i = 0; i < n; ++i) to[i] = (static_cast<float>(from[i]) - zero) * scale;
}

KERF_VECTORIZED void store_u8(const float* from, std::size_t n, float scale, float zero, std::uint8_t* to) {
  quantize(from, n, scale, zero, to, 0.0F, 255.0F);
}
KERF_VECTORIZED void store_s8(const float* from, std::size_t n, float scale, float zero, std::int8_t* to) {
  quantize(from, n, scale, zero, to, -128.0F, 127.0F);
}
KERF_VECTORIZED void store_bf16(const float* from, std::size_t n, std::uint16_t* to) {
  for (std::size_t i = 0; i < n; ++i) {
    const auto bits = std::bit_cast<std::uint32_t>(from[i]);
    const std::uint32_t rounded = (bits + 0x7FFFU + ((bits >> 16U) & 1U)) >> 16U;
    const std::uint32_t nan = (bits >> 16U) | 0x40U;
    to[i] = static_cast<std::uint16_t>((bits & 0x7FFFFFFFU) > 0x7F800000U ? nan : rounded);
  }
}

KERF_VECTORIZED void add(float* acc, const float* b, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) acc[i] += b[i];
}
KERF_VECTORIZED void subtract(float* acc, const float* b, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) acc[i] -= b[i];
}
KERF_VECTORIZED void subtract_from(float* acc, const float* b, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) acc[i] = b[i] - acc[i];
}
KERF_VECTORIZED void multiply(float* acc, const float* b, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) acc[i] *= b[i];
}
KERF_VECTORIZED void divide(float* acc, const float* b, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) acc[i] /= b[i];
}
KERF_VECTORIZED void divide_into(float* acc, const float* b, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) acc[i] = b[i] / acc[i];
}
KERF_VECTORIZED void maximum(float* acc, const float* b, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) acc[i] = acc[i] > b[i] ? acc[i] : b[i];
}
KERF_VECTORIZED void minimum(float* acc, const float* b, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) acc[i] = acc[i] < b[i] ? acc[i] : b[i];
}
KERF_VECTORIZED void prelu(float* acc, const float* slope, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) acc[i] = acc[i] < 0 ? acc[i] * slope[i] : acc[i];
}

KERF_VECTORIZED void relu(float* acc, std::size_t n, float slope) {
  for (std::size_t i = 0; i < n; ++i) acc[i] = acc[i] < 0 ? slope * acc[i] : acc[i];
}
KERF_VECTORIZED void clip(float* acc, std::size_t n, float low, float high) {
  for (std::size_t i = 0; i < n; ++i) {
    const float x = acc[i] < low ? low : acc[i];
    acc[i] = x > high ? high : x;
  }
}
KERF_VECTORIZED void linear(float* acc, std::size_t n, float factor, float shift) {
  for (std::size_t i = 0; i < n; ++i) acc[i] = acc[i] * factor + shift;
}
KERF_VECTORIZED void absolute(float* acc, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) acc[i] = std::fabs(acc[i]);
}
KERF_VECTORIZED void square_root(float* acc, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) acc[i] = std::sqrt(acc[i]);
}
KERF_VECTORIZED void hard_sigmoid(float* acc, std::size_t n, float alpha, float beta) {
  for (std::size_t i = 0; i < n; ++i) {
    float x = acc[i] * alpha + beta;
    x = x < 0.0F ? 0.0F : x;
    acc[i] = x > 1.0F ? 1.0F : x;
  }
}
KERF_VECTORIZED void hard_swish(float* acc, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) {
    float x = acc[i] / 6.0F + 0.5F;
    x = x < 0.0F ? 0.0F : x;
    acc[i] *= x > 1.0F ? 1.0F : x;
  }
}
KERF_VECTORIZED void exponential(float* acc, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) acc[i] = fast_exp(acc[i]);
}
KERF_VECTORIZED void sigmoid(float* acc, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) acc[i] = 1.0F / (1.0F + fast_exp(-acc[i]));
}
KERF_VECTORIZED void swish(float* acc, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) acc[i] = acc[i] / (1.0F + fast_exp(-acc[i]));
}
KERF_VECTORIZED void hyperbolic_tangent(float* acc, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) acc[i] = fast_tanh(acc[i]);
}
KERF_VECTORIZED void elu(float* acc, std::size_t n, float alpha) {
  for (std::size_t i = 0; i < n; ++i) {
    const float x = acc[i];
    // expm1 by its series near zero, where exp(x) - 1 cancels.
    const float series = x * (1.0F + x * (0.5F + x * (0.166666667F + x * 0.0416666667F)));
    const float low = x > -0.05F ? series : fast_exp(x) - 1.0F;
    acc[i] = x < 0 ? alpha * low : x;
  }
}
KERF_VECTORIZED void gelu(float* acc, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) acc[i] = 0.5F * acc[i] * (1.0F + fast_erf(acc[i] * 0.70710678118654752F));
}

KERF_VECTORIZED void add_rows_f32(const float* from, std::size_t rows, std::size_t channels, std::size_t count, float* acc) {
  for (std::size_t r = 0; r < rows; ++r, from += channels) {
    for (std::size_t c = 0; c < count; ++c) acc[c] += from[c];
  }
}
KERF_VECTORIZED void add_rows_bf16(const std::uint16_t* from, std::size_t rows, std::size_t channels, std::size_t count, float* acc) {
  for (std::size_t r = 0; r < rows; ++r, from += channels) {
    for (std::size_t c = 0; c < count; ++c) acc[c] += std::bit_cast<float>(static_cast<std::uint32_t>(from[c]) << 16U);
  }
}
KERF_VECTORIZED void add_rows_u8(const std::uint8_t* from, std::size_t rows, std::size_t channels, std::size_t count, std::int32_t* acc) {
  for (std::size_t r = 0; r < rows; ++r, from += channels) {
    for (std::size_t c = 0; c < count; ++c) acc[c] += from[c];
  }
}
KERF_VECTORIZED void add_rows_s8(const std::int8_t* from, std::size_t rows, std::size_t channels, std::size_t count, std::int32_t* acc) {
  for (std::size_t r = 0; r < rows; ++r, from += channels) {
    for (std::size_t c = 0; c < count; ++c) acc[c] += from[c];
  }
}

}  // namespace kerf::engine::vector
