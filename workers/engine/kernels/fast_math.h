#pragma once

#include <bit>
#include <cstdint>
#include <limits>

#include "workers/engine/kernels/vectorized.h"

/// Functions of one float without branches or calls, so that loops over them vectorize. Only for
/// sources that are compiled as CMakeLists.txt says (no errno, no traps).
namespace kerf::engine::vector {

/// Rounds to the nearest integer, ties to even, for |x| < 2^22: the mantissa has no room for more.
KERF_INLINE float round_even(float x) {
  constexpr float kMagic = 12582912.0F;  // 1.5 * 2^23
  return (x + kMagic) - kMagic;
}

/// exp within 2 units in the last place (Cephes' polynomial); saturates instead of overflowing.
KERF_INLINE float fast_exp(float x) {
  x = x < 88.3762626647949F ? x : 88.3762626647949F;
  x = x > -87.3365478515625F ? x : -87.3365478515625F;
  const float n = round_even(x * 1.44269504088896341F);
  const float r = (x - n * 0.693359375F) - n * -2.12194440e-4F;
  float p = 1.9875691500E-4F;
  p = p * r + 1.3981999507E-3F;
  p = p * r + 8.3334519073E-3F;
  p = p * r + 4.1665795894E-2F;
  p = p * r + 1.6666665459E-1F;
  p = p * r + 5.0000001201E-1F;
  p = p * r * r + r + 1.0F;
  const auto power = std::bit_cast<float>((static_cast<std::int32_t>(n) + 127) << 23);
  return p * power;
}

KERF_INLINE float fast_tanh(float x) {
  const float a = x < 0 ? -x : x;
  // Near zero the quotient cancels; the series is exact to float there.
  const float s = x * x;
  const float series = x * (1.0F + s * (-0.333333333F + s * (0.133333333F + s * -0.0539682540F)));
  const float e = fast_exp(-2.0F * a);
  const float quotient = (1.0F - e) / (1.0F + e);
  const float large = x < 0 ? -quotient : quotient;
  return a < 0.15F ? series : large;
}

/// erf within 1.5e-7 (Abramowitz and Stegun 7.1.26).
KERF_INLINE float fast_erf(float x) {
  const float a = x < 0 ? -x : x;
  const float t = 1.0F / (1.0F + 0.3275911F * a);
  const float p = t * (0.254829592F + t * (-0.284496736F + t * (1.421413741F + t * (-1.453152027F + t * 1.061405429F))));
  const float y = 1.0F - p * fast_exp(-a * a);
  return x < 0 ? -y : y;
}

/// Natural logarithm within 2 units in the last place (Cephes' polynomial). 0 gives -infinity, what
/// is below NaN; numbers without their leading bit (below 1.2e-38) count as 0.
KERF_INLINE float fast_log(float x) {
  const auto bits = std::bit_cast<std::int32_t>(x);
  std::int32_t exponent = (bits >> 23) - 126;
  float m = std::bit_cast<float>((bits & 0x007FFFFF) | 0x3F000000);  // in [0.5, 1)
  const bool low = m < 0.707106781186547524F;
  exponent = low ? exponent - 1 : exponent;
  m = (low ? m + m : m) - 1.0F;
  const auto e = static_cast<float>(exponent);
  const float z = m * m;
  float p = 7.0376836292E-2F;
  p = p * m - 1.1514610310E-1F;
  p = p * m + 1.1676998740E-1F;
  p = p * m - 1.2420140846E-1F;
  p = p * m + 1.4249322787E-1F;
  p = p * m - 1.6668057665E-1F;
  p = p * m + 2.0000714765E-1F;
  p = p * m - 2.4999993993E-1F;
  p = p * m + 3.3333331174E-1F;
  float y = p * m * z + e * -2.12194440e-4F - 0.5F * z;
  y = m + y + e * 0.693359375F;
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  y = x < 1.17549435e-38F ? -kInfinity : y;
  y = x < 0.0F ? std::numeric_limits<float>::quiet_NaN() : y;
  y = x == kInfinity ? x : y;
  return x != x ? x : y;
}

}  // namespace kerf::engine::vector
