#include "workers/engine/kernels/functions.h"

#include <cmath>

#include "workers/engine/kernels/fast_math.h"

namespace kerf::engine::vector {
namespace {

/// exp(x) - 1; by its series near zero, where the difference cancels.
KERF_INLINE float fast_expm1(float x) {
  const float series = x * (1.0F + x * (0.5F + x * (0.166666667F + x * 0.0416666667F)));
  return x > -0.05F && x < 0.05F ? series : fast_exp(x) - 1.0F;
}

/// erf; by its series near zero, so that small results are exact relative to their size.
KERF_INLINE float exact_erf(float x) {
  const float s = x * x;
  const float series =
      x * 1.12837916709551257F *
      (1.0F + s * (-0.333333333F + s * (0.1F + s * (-0.0238095238F + s * (4.62962963e-3F + s * -7.57575758e-4F)))));
  return s < 0.16F ? series : fast_erf(x);
}

KERF_INLINE float fast_softplus(float x) {
  const float e = fast_exp(x > 0 ? -x : x);
  // log1p by Kahan's quotient.
  const float u = 1.0F + e;
  const float d = u - 1.0F;
  const float log1p = d == 0.0F ? e : fast_log(u) * (e / d);
  return (x > 0 ? x : 0.0F) + log1p;
}

/// sin(x + quarters * pi / 2) for |x| <= 8192: pi / 2 in three parts (Cody and Waite), Cephes'
/// polynomials.
constexpr float kFarthest = 8192.0F;
KERF_INLINE float fast_sine(float x, std::int32_t quarters) {
  const float n = round_even(x * 0.636619772367581343F);
  const float r = ((x - n * 1.5703125F) - n * 4.837512969970703125e-4F) - n * 7.54978995489188216e-8F;
  const float z = r * r;
  const float s = r + r * z * (-1.6666654611E-1F + z * (8.3321608736E-3F + z * -1.9515295891E-4F));
  const float c = 1.0F - 0.5F * z + z * z * (4.166664568298827E-2F + z * (-1.388731625493765E-3F + z * 2.443315711809948E-5F));
  const std::int32_t q = static_cast<std::int32_t>(n) + quarters;
  const float v = (q & 1) != 0 ? c : s;
  return (q & 2) != 0 ? -v : v;
}

KERF_INLINE void sines(float* acc, std::size_t n, std::int32_t quarters) {
  std::int32_t far = 0;
  for (std::size_t i = 0; i < n; ++i) far |= static_cast<std::int32_t>(!(acc[i] <= kFarthest && acc[i] >= -kFarthest));
  if (far != 0) {
    for (std::size_t i = 0; i < n; ++i) acc[i] = quarters == 0 ? std::sin(acc[i]) : std::cos(acc[i]);
    return;
  }
  for (std::size_t i = 0; i < n; ++i) acc[i] = fast_sine(acc[i], quarters);
}

}  // namespace

KERF_VECTORIZED void error_function(float* acc, std::size_t n, float, float) {
  for (std::size_t i = 0; i < n; ++i) acc[i] = exact_erf(acc[i]);
}
KERF_VECTORIZED void logarithm(float* acc, std::size_t n, float, float) {
  for (std::size_t i = 0; i < n; ++i) acc[i] = fast_log(acc[i]);
}
KERF_VECTORIZED void softplus(float* acc, std::size_t n, float, float) {
  for (std::size_t i = 0; i < n; ++i) acc[i] = fast_softplus(acc[i]);
}
KERF_VECTORIZED void softsign(float* acc, std::size_t n, float, float) {
  for (std::size_t i = 0; i < n; ++i) acc[i] = acc[i] / (1.0F + std::fabs(acc[i]));
}
KERF_VECTORIZED void mish(float* acc, std::size_t n, float, float) {
  for (std::size_t i = 0; i < n; ++i) {
    // tanh(log(1 + w)) = (w^2 + 2w) / (w^2 + 2w + 2), which is 1 to a float beyond 20.
    const float x = acc[i];
    const float w = fast_exp(x < 20.0F ? x : 20.0F);
    const float m = w * (w + 2.0F);
    acc[i] = x * (m / (m + 2.0F));
  }
}
KERF_VECTORIZED void floor(float* acc, std::size_t n, float, float) {
  for (std::size_t i = 0; i < n; ++i) acc[i] = std::floor(acc[i]);
}
KERF_VECTORIZED void ceiling(float* acc, std::size_t n, float, float) {
  for (std::size_t i = 0; i < n; ++i) acc[i] = std::ceil(acc[i]);
}
KERF_VECTORIZED void round(float* acc, std::size_t n, float, float) {
  for (std::size_t i = 0; i < n; ++i) acc[i] = std::nearbyint(acc[i]);
}
KERF_VECTORIZED void sign(float* acc, std::size_t n, float, float) {
  for (std::size_t i = 0; i < n; ++i) {
    const float positive = acc[i] > 0 ? 1.0F : 0.0F;
    const float negative = acc[i] < 0 ? 1.0F : 0.0F;
    acc[i] = positive - negative;
  }
}
KERF_VECTORIZED void reciprocal(float* acc, std::size_t n, float, float) {
  for (std::size_t i = 0; i < n; ++i) acc[i] = 1.0F / acc[i];
}
KERF_VECTORIZED void divide_by(float* acc, std::size_t n, float divisor, float) {
  for (std::size_t i = 0; i < n; ++i) acc[i] /= divisor;
}
KERF_VECTORIZED void square(float* acc, std::size_t n, float, float) {
  for (std::size_t i = 0; i < n; ++i) acc[i] *= acc[i];
}
KERF_VECTORIZED void cube(float* acc, std::size_t n, float, float) {
  for (std::size_t i = 0; i < n; ++i) acc[i] = acc[i] * acc[i] * acc[i];
}
KERF_VECTORIZED void selu(float* acc, std::size_t n, float alpha, float gamma) {
  for (std::size_t i = 0; i < n; ++i) acc[i] = gamma * (acc[i] < 0 ? alpha * fast_expm1(acc[i]) : acc[i]);
}
KERF_VECTORIZED void celu(float* acc, std::size_t n, float alpha, float) {
  for (std::size_t i = 0; i < n; ++i) {
    const float x = acc[i];
    const float q = x / alpha;
    const float low = alpha * fast_expm1(q);
    acc[i] = (x > 0 ? x : 0.0F) + (low < 0 ? low : 0.0F);
  }
}
KERF_VECTORIZED void threshold(float* acc, std::size_t n, float alpha, float) {
  for (std::size_t i = 0; i < n; ++i) acc[i] = acc[i] > alpha ? acc[i] : 0.0F;
}
KERF_VECTORIZED void shrink(float* acc, std::size_t n, float bias, float lambda) {
  for (std::size_t i = 0; i < n; ++i) {
    const float x = acc[i];
    const float high = x > lambda ? x - bias : 0.0F;
    acc[i] = x < -lambda ? x + bias : high;
  }
}
KERF_VECTORIZED void gelu_tanh(float* acc, std::size_t n, float, float) {
  for (std::size_t i = 0; i < n; ++i) {
    const float x = acc[i];
    acc[i] = 0.5F * x * (1.0F + fast_tanh(0.797884560802865F * (x + 0.044715F * x * x * x)));
  }
}
KERF_VECTORIZED void quick_gelu(float* acc, std::size_t n, float alpha, float) {
  for (std::size_t i = 0; i < n; ++i) acc[i] = acc[i] / (1.0F + fast_exp(-alpha * acc[i]));
}
KERF_VECTORIZED void sine(float* acc, std::size_t n, float, float) { sines(acc, n, 0); }
KERF_VECTORIZED void cosine(float* acc, std::size_t n, float, float) { sines(acc, n, 1); }

}  // namespace kerf::engine::vector
