#include "workers/engine/training/loops.h"

#include <bit>
#include <cmath>

#include "workers/engine/kernels/vector.h"
#include "workers/engine/kernels/vectorized.h"

namespace kerf::engine::training::loops {
namespace {

/// Rounds to the nearest integer, ties to even, for |x| < 2^22.
[[gnu::always_inline]] inline float round_even(float x) {
  constexpr float kMagic = 12582912.0F;  // 1.5 * 2^23
  return (x + kMagic) - kMagic;
}

[[gnu::always_inline]] inline float clamped(float x, float low, float high) {
  x = x > low ? x : low;
  return x < high ? x : high;
}

template <class F>
[[gnu::always_inline]] inline void fill(std::size_t n, float* y, bool accumulate, F&& f) {
  if (accumulate) {
    for (std::size_t i = 0; i < n; ++i) y[i] += f(i);
  } else {
    for (std::size_t i = 0; i < n; ++i) y[i] = f(i);
  }
}

constexpr float kInverseRoot2 = 0.70710678118654752F;
constexpr float kInverseRoot2Pi = 0.39894228040143268F;
constexpr float kRoot2OverPi = 0.79788456080286536F;

/// y of the functions whose y comes from a block-wise kernel.
void by_blocks(void (*kernel)(float*, std::size_t), const float* x, std::size_t n, float* y) {
  if (x != y) copy(x, n, y, false);
  for (std::size_t i = 0; i < n; i += vector::kBlock) {
    kernel(y + i, n - i < vector::kBlock ? n - i : vector::kBlock);
  }
}

/// Derivatives by x that need a transcendental function.
float slope(Unary op, float a, float x, float y) {
  switch (op) {
    case Unary::kSwish: {
      const float s = 1.0F / (1.0F + std::exp(-x));
      return s + y * (1.0F - s);
    }
    case Unary::kGelu:
      return 0.5F * (1.0F + std::erf(x * kInverseRoot2)) +
             x * kInverseRoot2Pi * std::exp(-0.5F * x * x);
    case Unary::kGeluTanh: {
      const float t = std::tanh(kRoot2OverPi * (x + 0.044715F * x * x * x));
      return 0.5F * (1.0F + t) +
             0.5F * x * (1.0F - t * t) * kRoot2OverPi * (1.0F + 3.0F * 0.044715F * x * x);
    }
    case Unary::kErf: return 2.0F * kRoot2OverPi * kInverseRoot2 * std::exp(-x * x);
    case Unary::kElu: return x > 0 ? 1.0F : a * std::exp(x);
    case Unary::kSoftplus: return 1.0F / (1.0F + std::exp(-x));
    default: return 0;
  }
}

}  // namespace

KERF_VECTORIZED void unary_forward(Unary op, float a, float b, const float* x, std::size_t n, float* y) {
  switch (op) {
    case Unary::kRelu: fill(n, y, false, [&](std::size_t i) { return x[i] > 0 ? x[i] : a * x[i]; }); break;
    case Unary::kClip: fill(n, y, false, [&](std::size_t i) { return clamped(x[i], a, b); }); break;
    case Unary::kHardSigmoid:
      fill(n, y, false, [&](std::size_t i) { return clamped(a * x[i] + b, 0.0F, 1.0F); });
      break;
    case Unary::kHardSwish:
      fill(n, y, false, [&](std::size_t i) { return x[i] * clamped(x[i] * (1.0F / 6.0F) + 0.5F, 0.0F, 1.0F); });
      break;
    case Unary::kSigmoid: by_blocks(vector::sigmoid, x, n, y); break;
    case Unary::kSwish: by_blocks(vector::swish, x, n, y); break;
    case Unary::kTanh: by_blocks(vector::hyperbolic_tangent, x, n, y); break;
    case Unary::kGelu: by_blocks(vector::gelu, x, n, y); break;
    case Unary::kExponential: by_blocks(vector::exponential, x, n, y); break;
    case Unary::kGeluTanh:
      for (std::size_t i = 0; i < n; ++i) {
        y[i] = 0.5F * x[i] * (1.0F + std::tanh(kRoot2OverPi * (x[i] + 0.044715F * x[i] * x[i] * x[i])));
      }
      break;
    case Unary::kErf:
      for (std::size_t i = 0; i < n; ++i) y[i] = std::erf(x[i]);
      break;
    case Unary::kElu:
      for (std::size_t i = 0; i < n; ++i) y[i] = x[i] > 0 ? x[i] : a * std::expm1(x[i]);
      break;
    case Unary::kSoftplus:
      for (std::size_t i = 0; i < n; ++i) y[i] = x[i] > 20.0F ? x[i] : std::log1p(std::exp(x[i]));
      break;
    case Unary::kAbsolute: fill(n, y, false, [&](std::size_t i) { return x[i] < 0 ? -x[i] : x[i]; }); break;
    case Unary::kNegate: fill(n, y, false, [&](std::size_t i) { return -x[i]; }); break;
    case Unary::kSquareRoot:
      for (std::size_t i = 0; i < n; ++i) y[i] = std::sqrt(x[i]);
      break;
  }
}

KERF_VECTORIZED void unary_backward(Unary op, float a, float b, const float* x, const float* y, const float* dy,
                                    std::size_t n, float* dx, bool accumulate) {
  switch (op) {
    case Unary::kRelu:
      fill(n, dx, accumulate, [&](std::size_t i) { return x[i] > 0 ? dy[i] : a * dy[i]; });
      break;
    case Unary::kClip:
      fill(n, dx, accumulate, [&](std::size_t i) { return ((x[i] >= a) & (x[i] <= b)) ? dy[i] : 0.0F; });
      break;
    case Unary::kHardSigmoid:
      fill(n, dx, accumulate, [&](std::size_t i) {
        const float t = a * x[i] + b;
        return ((t > 0) & (t < 1)) ? a * dy[i] : 0.0F;
      });
      break;
    case Unary::kHardSwish:
      fill(n, dx, accumulate, [&](std::size_t i) {
        const float inside = x[i] * (1.0F / 3.0F) + 0.5F;
        const float high = x[i] >= 3.0F ? 1.0F : inside;
        return dy[i] * (x[i] <= -3.0F ? 0.0F : high);
      });
      break;
    case Unary::kSigmoid: fill(n, dx, accumulate, [&](std::size_t i) { return dy[i] * y[i] * (1.0F - y[i]); }); break;
    case Unary::kTanh: fill(n, dx, accumulate, [&](std::size_t i) { return dy[i] * (1.0F - y[i] * y[i]); }); break;
    case Unary::kAbsolute:
      fill(n, dx, accumulate, [&](std::size_t i) { return x[i] > 0 ? dy[i] : (x[i] < 0 ? -dy[i] : 0.0F); });
      break;
    case Unary::kNegate: fill(n, dx, accumulate, [&](std::size_t i) { return -dy[i]; }); break;
    case Unary::kExponential: fill(n, dx, accumulate, [&](std::size_t i) { return dy[i] * y[i]; }); break;
    case Unary::kSquareRoot:
      fill(n, dx, accumulate, [&](std::size_t i) { return y[i] > 0 ? dy[i] * 0.5F / y[i] : 0.0F; });
      break;
    case Unary::kSwish:
    case Unary::kGelu:
    case Unary::kGeluTanh:
    case Unary::kErf:
    case Unary::kElu:
    case Unary::kSoftplus:
      for (std::size_t i = 0; i < n; ++i) {
        const float part = dy[i] * slope(op, a, x[i], y[i]);
        dx[i] = accumulate ? dx[i] + part : part;
      }
      break;
  }
}

KERF_VECTORIZED void round_forward(const float* x, std::size_t n, float scale, float zero, float low, float high,
                                   float* y) {
  low -= zero;
  high -= zero;
  for (std::size_t i = 0; i < n; ++i) y[i] = round_even(clamped(x[i] / scale, low, high)) * scale;
}

KERF_VECTORIZED void round_backward(const float* x, const float* dy, std::size_t n, float scale, float zero, float low,
                                    float high, float* dx, bool accumulate) {
  // What rounds to the last step is inside.
  const float from = (low - zero - 0.5F) * scale;
  const float to = (high - zero + 0.5F) * scale;
  fill(n, dx, accumulate, [&](std::size_t i) { return ((x[i] >= from) & (x[i] <= to)) ? dy[i] : 0.0F; });
}

KERF_VECTORIZED void sign_forward(const float* x, std::size_t n, float scale, float* y) {
  fill(n, y, false, [&](std::size_t i) { return x[i] > 0 ? scale : (x[i] < 0 ? -scale : 0.0F); });
}
KERF_VECTORIZED void sign_backward(const float* x, const float* dy, std::size_t n, float scale, float* dx,
                                   bool accumulate) {
  const float most = 2.0F * scale;
  fill(n, dx, accumulate, [&](std::size_t i) { return ((x[i] >= -most) & (x[i] <= most)) ? dy[i] : 0.0F; });
}

KERF_VECTORIZED void round_bf16(const float* x, std::size_t n, float* y) {
  for (std::size_t i = 0; i < n; ++i) {
    const auto bits = std::bit_cast<std::uint32_t>(x[i]);
    const std::uint32_t rounded = (bits + 0x7FFFU + ((bits >> 16U) & 1U)) & 0xFFFF0000U;
    y[i] = std::bit_cast<float>(rounded);
  }
}

KERF_VECTORIZED void copy(const float* from, std::size_t n, float* to, bool accumulate) {
  fill(n, to, accumulate, [&](std::size_t i) { return from[i]; });
}
KERF_VECTORIZED void scale(const float* from, float factor, std::size_t n, float* to, bool accumulate) {
  fill(n, to, accumulate, [&](std::size_t i) { return factor * from[i]; });
}
KERF_VECTORIZED void add(const float* a, const float* b, std::size_t n, float* y) {
  for (std::size_t i = 0; i < n; ++i) y[i] = a[i] + b[i];
}
KERF_VECTORIZED void subtract(const float* a, const float* b, std::size_t n, float* y) {
  for (std::size_t i = 0; i < n; ++i) y[i] = a[i] - b[i];
}
KERF_VECTORIZED void multiply(const float* a, const float* b, std::size_t n, float* y, bool accumulate) {
  fill(n, y, accumulate, [&](std::size_t i) { return a[i] * b[i]; });
}
KERF_VECTORIZED void multiply_add(const float* a, const float* b, const float* c, std::size_t n, float* y) {
  for (std::size_t i = 0; i < n; ++i) y[i] = a[i] * b[i] + c[i];
}

// Sixteen partial sums, in the same order on every instruction set.
KERF_VECTORIZED float sum(const float* x, std::size_t n) {
  float part[16] = {};
  std::size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    for (std::size_t k = 0; k < 16; ++k) part[k] += x[i + k];
  }
  for (; i < n; ++i) part[i % 16] += x[i];
  float total = 0;
  for (const float p : part) total += p;
  return total;
}

KERF_VECTORIZED float dot(const float* a, const float* b, std::size_t n) {
  float part[16] = {};
  std::size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    for (std::size_t k = 0; k < 16; ++k) part[k] += a[i + k] * b[i + k];
  }
  for (; i < n; ++i) part[i % 16] += a[i] * b[i];
  float total = 0;
  for (const float p : part) total += p;
  return total;
}

}  // namespace kerf::engine::training::loops
