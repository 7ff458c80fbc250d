#include "workers/engine/kernels/quantize.h"

#include <algorithm>
#include <cstddef>

#include "workers/engine/kernels/fast_math.h"
#include "workers/engine/kernels/parallel.h"

namespace kerf::engine {
namespace {

/// Saturated before rounding, so that the rounding trick holds for every x.
KERF_INLINE float rounded(float q, float zero, float low, float high) {
  const float first = low - zero;
  const float last = high - zero;
  q = q > first ? q : first;
  q = q < last ? q : last;
  return vector::round_even(q) + zero;
}

template <class T>
KERF_INLINE void quantize_same(const float* x, std::int64_t n, float scale, float zero, float low, float high, T* y) {
  for (std::int64_t i = 0; i < n; ++i) y[i] = static_cast<T>(static_cast<std::int32_t>(rounded(x[i] / scale, zero, low, high)));
}
template <class T>
KERF_INLINE void quantize_each(const float* x, std::int64_t n, const float* scales, const T* zeros, float low, float high, T* y) {
  if (zeros == nullptr) {
    for (std::int64_t i = 0; i < n; ++i) y[i] = static_cast<T>(static_cast<std::int32_t>(rounded(x[i] / scales[i], 0.0F, low, high)));
    return;
  }
  for (std::int64_t i = 0; i < n; ++i) {
    y[i] = static_cast<T>(static_cast<std::int32_t>(rounded(x[i] / scales[i], static_cast<float>(zeros[i]), low, high)));
  }
}
template <class T>
KERF_INLINE void dequantize_same(const T* x, std::int64_t n, float scale, std::int32_t zero, float* y) {
  for (std::int64_t i = 0; i < n; ++i) y[i] = static_cast<float>(static_cast<std::int32_t>(x[i]) - zero) * scale;
}
template <class T>
KERF_INLINE void dequantize_each(const T* x, std::int64_t n, const float* scales, const T* zeros, float* y) {
  if (zeros == nullptr) {
    for (std::int64_t i = 0; i < n; ++i) y[i] = static_cast<float>(x[i]) * scales[i];
    return;
  }
  for (std::int64_t i = 0; i < n; ++i) y[i] = static_cast<float>(static_cast<std::int32_t>(x[i]) - static_cast<std::int32_t>(zeros[i])) * scales[i];
}

#define KERF_QUANTIZE(T)                                                                                                                        \
  KERF_VECTORIZED void same(const float* x, std::int64_t n, float scale, float zero, float low, float high, T* y) {                             \
    quantize_same(x, n, scale, zero, low, high, y);                                                                                             \
  }                                                                                                                                             \
  KERF_VECTORIZED void each(const float* x, std::int64_t n, const float* scales, const T* zeros, float low, float high, T* y) {                 \
    quantize_each(x, n, scales, zeros, low, high, y);                                                                                           \
  }
#define KERF_DEQUANTIZE(T)                                                                                                                      \
  KERF_VECTORIZED void same(const T* x, std::int64_t n, float scale, std::int32_t zero, float* y) { dequantize_same(x, n, scale, zero, y); }   \
  KERF_VECTORIZED void each(const T* x, std::int64_t n, const float* scales, const T* zeros, float* y) { dequantize_each(x, n, scales, zeros, y); }
KERF_QUANTIZE(std::int8_t)
KERF_QUANTIZE(std::uint8_t)
KERF_QUANTIZE(std::int16_t)
KERF_QUANTIZE(std::uint16_t)
KERF_DEQUANTIZE(std::int8_t)
KERF_DEQUANTIZE(std::uint8_t)
KERF_DEQUANTIZE(std::int16_t)
KERF_DEQUANTIZE(std::uint16_t)
KERF_DEQUANTIZE(std::int32_t)
#undef KERF_QUANTIZE
#undef KERF_DEQUANTIZE

/// one(first element, elements, scale's index) for runs of one scale, or many(first element, elements,
/// first scale's index) for runs with a scale each.
template <class One, class Many>
void each_run(const ScaleSpread& s, One&& one, Many&& many) {
  using Kind = ScaleSpread::Kind;
  constexpr std::int64_t kPart = 8192;
  const auto split = [&](std::int64_t runs, std::int64_t length, auto&& f) {
    parallel_for(static_cast<std::size_t>(runs), static_cast<std::size_t>(length), s.threads, [&](std::size_t i) { f(static_cast<std::int64_t>(i)); });
  };
  if (s.kind == Kind::kOne) {
    const std::int64_t all = s.outer * s.extent * s.inner;
    split((all + kPart - 1) / kPart, kPart, [&](std::int64_t i) { one(i * kPart, std::min(kPart, all - i * kPart), std::int64_t{0}); });
    return;
  }
  if (s.kind == Kind::kMiddle) {
    if (s.inner == 1) return split(s.outer, s.extent, [&](std::int64_t i) { many(i * s.extent, s.extent, std::int64_t{0}); });
    return split(s.outer * s.extent, s.inner, [&](std::int64_t i) { one(i * s.inner, s.inner, i % s.extent); });
  }
  const std::int64_t blocks = (s.extent + s.block - 1) / s.block;
  if (s.inner == 1) {
    return split(s.outer * blocks, s.block, [&](std::int64_t i) {
      const std::int64_t first = i % blocks * s.block;
      one(i / blocks * s.extent + first, std::min(s.block, s.extent - first), i);
    });
  }
  split(s.outer * s.extent, s.inner, [&](std::int64_t i) {
    const std::int64_t place = i / s.extent * blocks + i % s.extent / s.block;
    many(i * s.inner, s.inner, place * s.inner);
  });
}

}  // namespace

template <class T>
void quantize_spread(const ScaleSpread& how, const float* x, const float* scales, const T* zeros, float low, float high, T* y) {
  each_run(
      how,
      [&](std::int64_t at, std::int64_t n, std::int64_t k) { same(x + at, n, scales[k], zeros == nullptr ? 0.0F : static_cast<float>(zeros[k]), low, high, y + at); },
      [&](std::int64_t at, std::int64_t n, std::int64_t k) { each(x + at, n, scales + k, zeros == nullptr ? nullptr : zeros + k, low, high, y + at); });
}

template <class T>
void dequantize_spread(const ScaleSpread& how, const T* x, const float* scales, const T* zeros, float* y) {
  each_run(
      how, [&](std::int64_t at, std::int64_t n, std::int64_t k) { same(x + at, n, scales[k], zeros == nullptr ? 0 : static_cast<std::int32_t>(zeros[k]), y + at); },
      [&](std::int64_t at, std::int64_t n, std::int64_t k) { each(x + at, n, scales + k, zeros == nullptr ? nullptr : zeros + k, y + at); });
}

template void quantize_spread(const ScaleSpread&, const float*, const float*, const std::int8_t*, float, float, std::int8_t*);
template void quantize_spread(const ScaleSpread&, const float*, const float*, const std::uint8_t*, float, float, std::uint8_t*);
template void quantize_spread(const ScaleSpread&, const float*, const float*, const std::int16_t*, float, float, std::int16_t*);
template void quantize_spread(const ScaleSpread&, const float*, const float*, const std::uint16_t*, float, float, std::uint16_t*);
template void dequantize_spread(const ScaleSpread&, const std::int8_t*, const float*, const std::int8_t*, float*);
template void dequantize_spread(const ScaleSpread&, const std::uint8_t*, const float*, const std::uint8_t*, float*);
template void dequantize_spread(const ScaleSpread&, const std::int16_t*, const float*, const std::int16_t*, float*);
template void dequantize_spread(const ScaleSpread&, const std::uint16_t*, const float*, const std::uint16_t*, float*);
template void dequantize_spread(const ScaleSpread&, const std::int32_t*, const float*, const std::int32_t*, float*);

}  // namespace kerf::engine
