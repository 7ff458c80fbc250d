#pragma once

#include <cmath>
#include <functional>
#include <limits>
#include <optional>
#include <type_traits>

#include "workers/engine/reference/kernels.h"

namespace kerf::engine::reference {

/// The f32 function of a unary op with its attributes and constant inputs (Clip's bounds) bound;
/// nullopt for an op that isn't one. Tables for 8-bit values and the reference kernels share it.
[[nodiscard]] std::optional<std::function<float(float)>> scalar_function(const Node& node,
                                                                         Inputs inputs);

/// C's conversion with what doesn't fit pinned to the nearest value, NaN to 0.
template <class To, class From>
[[nodiscard]] To saturating_cast(From value) {
  if constexpr (std::is_floating_point_v<From> && std::is_integral_v<To>) {
    if (std::isnan(value)) return To{};
    if (value <= static_cast<From>(std::numeric_limits<To>::lowest())) {
      return std::numeric_limits<To>::lowest();
    }
    if (value >= static_cast<From>(std::numeric_limits<To>::max())) {
      return std::numeric_limits<To>::max();
    }
  }
  return static_cast<To>(value);
}

/// QuantizeLinear of one value: ties to even, saturated to [low, high].
[[nodiscard]] inline std::int32_t quantize_value(float x, float scale, std::int32_t zero,
                                                 std::int32_t low, std::int32_t high) {
  const float q = std::nearbyintf(x / scale) + static_cast<float>(zero);
  if (!(q > static_cast<float>(low))) return low;
  if (q >= static_cast<float>(high)) return high;
  return static_cast<std::int32_t>(q);
}

}  // namespace kerf::engine::reference
