#pragma once

#include "workers/engine/lowering/light.h"

namespace kerf::engine {

[[nodiscard]] constexpr bool is_byte(graph::DType dtype) { return dtype == graph::DType::kU8 || dtype == graph::DType::kS8; }

/// A zero point that one number gives: as s32 in a slot; -1 stands for none, or 0.
struct ZeroPoint {
  bool fits = true;  ///< False where there is more than one number.
  SlotId slot = -1;
};
[[nodiscard]] Result<ZeroPoint> zero_point(Values& values, const graph::Node& node, std::size_t input);

/// Weights as s8, and what is then left of their zero points.
struct SignedWeights {
  graph::Tensor integers;
  std::vector<std::int32_t> zeros;  ///< One a channel.
  std::vector<std::int32_t> sums;   ///< Of a channel's integers.
  bool has_zero = false;            ///< Whether one of `zeros` isn't 0.
};
/// `given` is u8 or s8; its channels lie along `axis`. `zeros` are one, or one a channel.
[[nodiscard]] SignedWeights signed_weights(const graph::Tensor& given, std::vector<std::int64_t> zeros, std::size_t axis);

/// Sums of products as the library gives them without zero points, which are exact.
struct RawSums {
  SlotId sums = -1;     ///< s32, channels last.
  SlotId windows = -1;  ///< Sums of the source alone, where the weights have zero points.
  SlotId x_zero = -1;   ///< The source's zero point as s32; -1: 0.
  bool shifted = false; ///< The source was s8 and is u8, 128 above it.
};
/// Appends what makes them those of (x - zero) * (w - zero), of these dims; the slot with the result.
[[nodiscard]] SlotId emit_zero_points(Values& values, const graph::Node& node, const RawSums& raw, const SignedWeights& weights,
                                      std::int64_t groups, const graph::Shape& dims, Layout layout);

/// ConvInteger with constant weights.
[[nodiscard]] Result<bool> lower_integer_convolution(Values& values, const graph::Node& node);

}  // namespace kerf::engine
