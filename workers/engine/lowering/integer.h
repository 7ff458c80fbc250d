#pragma once

#include "workers/engine/lowering/light.h"

namespace kerf::engine {

/// A zero point that one number gives: as s32 in a slot; -1 stands for none, or 0.
struct ZeroPoint {
  bool fits = true;  ///< False where there is more than one number.
  SlotId slot = -1;
};
[[nodiscard]] Result<ZeroPoint> zero_point(Values& values, const graph::Node& node, std::size_t input);

/// ConvInteger with constant weights.
[[nodiscard]] Result<bool> lower_integer_convolution(Values& values, const graph::Node& node);

}  // namespace kerf::engine
