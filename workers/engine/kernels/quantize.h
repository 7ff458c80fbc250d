#pragma once

#include <cstdint>

namespace kerf::engine {

/// How scales and zero points lie over the elements of [outer, extent, inner]: one for all, one for each
/// index of the middle, or one for each `block` of indices of it and each of `inner`.
struct ScaleSpread {
  enum class Kind : std::uint8_t { kOne, kMiddle, kBlocks } kind = Kind::kOne;
  std::int64_t outer = 1, extent = 1, inner = 1, block = 1;
  int threads = 1;
};

/// ONNX's QuantizeLinear: x / scale, ties to even, plus zero, saturated to [low, high], which are the ends
/// of T or of a narrower type that lies in T. `zeros` may be null: 0.
template <class T>
void quantize_spread(const ScaleSpread& how, const float* x, const float* scales, const T* zeros, float low, float high, T* y);

/// ONNX's DequantizeLinear: (x - zero) * scale.
template <class T>
void dequantize_spread(const ScaleSpread& how, const T* x, const float* scales, const T* zeros, float* y);

}  // namespace kerf::engine
