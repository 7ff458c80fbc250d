#include "workers/engine/kernels/resize.h"

#include <cstring>

#include "workers/engine/kernels/parallel.h"
#include "workers/engine/kernels/vectorized.h"

namespace kerf::engine {
namespace {

/// y = sum of taps rows of x.
KERF_VECTORIZED void blend(const float* x, const std::int32_t* indices, const float* weights, std::int64_t taps, std::int64_t n, float* __restrict y) {
  if (taps == 2) {
    const float* a = x + indices[0] * n;
    const float* b = x + indices[1] * n;
    const float p = weights[0];
    const float q = weights[1];
    for (std::int64_t i = 0; i < n; ++i) y[i] = p * a[i] + q * b[i];
    return;
  }
  for (std::int64_t i = 0; i < n; ++i) y[i] = weights[0] * x[indices[0] * n + i];
  for (std::int64_t k = 1; k < taps; ++k) {
    const float* row = x + indices[k] * n;
    const float w = weights[k];
    for (std::int64_t i = 0; i < n; ++i) y[i] += w * row[i];
  }
}

/// A whole row whose elements are mixed among themselves.
KERF_VECTORIZED void blend_row(const float* x, const std::int32_t* indices, const float* weights, std::int64_t taps, std::int64_t n, float* __restrict y) {
  if (taps == 2) {
    for (std::int64_t i = 0; i < n; ++i) y[i] = weights[2 * i] * x[indices[2 * i]] + weights[2 * i + 1] * x[indices[2 * i + 1]];
    return;
  }
  for (std::int64_t i = 0; i < n; ++i) {
    float sum = 0;
    for (std::int64_t k = 0; k < taps; ++k) sum += weights[i * taps + k] * x[indices[i * taps + k]];
    y[i] = sum;
  }
}

template <class T>
KERF_INLINE void pick(const T* x, const std::int32_t* indices, std::int64_t n, T* __restrict y) {
  for (std::int64_t i = 0; i < n; ++i) y[i] = x[indices[i]];
}
KERF_VECTORIZED void pick_row(const std::byte* x, const std::int32_t* indices, std::int64_t n, std::byte* y, std::size_t size) {
  switch (size) {
    case 1: pick(reinterpret_cast<const std::uint8_t*>(x), indices, n, reinterpret_cast<std::uint8_t*>(y)); break;
    case 2: pick(reinterpret_cast<const std::uint16_t*>(x), indices, n, reinterpret_cast<std::uint16_t*>(y)); break;
    case 4: pick(reinterpret_cast<const std::uint32_t*>(x), indices, n, reinterpret_cast<std::uint32_t*>(y)); break;
    default: pick(reinterpret_cast<const std::uint64_t*>(x), indices, n, reinterpret_cast<std::uint64_t*>(y)); break;
  }
}

}  // namespace

void resize_axis(const AxisResize& what, const float* x, float* y) {
  const auto work = static_cast<std::size_t>(what.out * what.inner * what.taps);
  parallel_for(static_cast<std::size_t>(what.outer), work, what.threads, [&](std::size_t o) {
    const float* from = x + static_cast<std::int64_t>(o) * what.in * what.inner;
    float* to = y + static_cast<std::int64_t>(o) * what.out * what.inner;
    if (what.inner == 1) return blend_row(from, what.indices.data(), what.weights.data(), what.taps, what.out, to);
    for (std::int64_t i = 0; i < what.out; ++i) {
      blend(from, what.indices.data() + i * what.taps, what.weights.data() + i * what.taps, what.taps, what.inner, to + i * what.inner);
    }
  });
}

void resize_axis(const AxisResize& what, const std::byte* x, std::byte* y, std::size_t element_size) {
  const std::size_t run = static_cast<std::size_t>(what.inner) * element_size;
  const auto work = static_cast<std::size_t>(what.out * what.inner);
  parallel_for(static_cast<std::size_t>(what.outer), work, what.threads, [&](std::size_t o) {
    const std::byte* from = x + o * static_cast<std::size_t>(what.in) * run;
    std::byte* to = y + o * static_cast<std::size_t>(what.out) * run;
    if (what.inner == 1) return pick_row(from, what.indices.data(), what.out, to, element_size);
    for (std::int64_t i = 0; i < what.out; ++i) {
      std::memcpy(to + static_cast<std::size_t>(i) * run, from + static_cast<std::size_t>(what.indices[static_cast<std::size_t>(i)]) * run, run);
    }
  });
}

}  // namespace kerf::engine
