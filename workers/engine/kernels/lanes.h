#pragma once

#include <cstddef>

#include "workers/engine/kernels/vectorized.h"

namespace kerf::engine::vector {

/// f's fold of map(x[i]) over n floats in 32 lanes, which start at `start` and are folded in halves
/// at the end: f(f(start, x0), x32), … The compiler keeps the lanes in registers.
template <class Map, class Fold>
KERF_INLINE float reduced(const float* x, std::size_t n, float start, Map map, Fold fold) {
  constexpr std::size_t kLanes = 32;
  float lanes[kLanes];
  for (std::size_t k = 0; k < kLanes; ++k) lanes[k] = start;
  std::size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (std::size_t k = 0; k < kLanes; ++k) lanes[k] = fold(lanes[k], map(x[i + k]));
  }
  for (std::size_t k = 0; i < n; ++i, ++k) lanes[k] = fold(lanes[k], map(x[i]));
  for (std::size_t half = kLanes / 2; half > 0; half /= 2) {
    for (std::size_t k = 0; k < half; ++k) lanes[k] = fold(lanes[k], lanes[k + half]);
  }
  return lanes[0];
}

KERF_INLINE float sum_of(const float* x, std::size_t n) {
  return reduced(x, n, 0.0F, [](float v) { return v; }, [](float a, float b) { return a + b; });
}

/// Of (x - mean)^2.
KERF_INLINE float sum_of_squares(const float* x, std::size_t n, float mean) {
  return reduced(x, n, 0.0F,
                 [mean](float v) {
                   const float d = v - mean;
                   return d * d;
                 },
                 [](float a, float b) { return a + b; });
}

}  // namespace kerf::engine::vector
