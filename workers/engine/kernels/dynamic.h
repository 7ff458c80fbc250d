#pragma once

#include "workers/engine/plan.h"

namespace kerf::engine {

/// ONNX's DynamicQuantizeLinear: bytes by the range of what comes.
///
/// Shapes:   from [elements] f32 -> to u8 in the same order; scale [1] f32; zero [1] u8, and the same
///           number as s32, which is what oneDNN reads.
/// Maths:    lo = min(0, min x), hi = max(0, max x), scale = (hi − lo) / 255, but not below the least
///           normal float (1 where all are 0); zero = round(−lo / scale); q = round(x / scale) + zero,
///           saturated, ties to even.
struct DynamicQuantize {
  SlotId from = -1, to = -1, scale = -1, zero = -1, zero_s32 = -1;
  std::int64_t elements = 0;
  int threads = 1;
};
[[nodiscard]] std::unique_ptr<Step> make_dynamic_quantize(const DynamicQuantize& how);

/// scale · (q − zero) with what make_dynamic_quantize left in these slots.
struct DynamicDequantize {
  SlotId from = -1, scale = -1, zero_s32 = -1, to = -1;
  std::int64_t elements = 0;
  int threads = 1;
};
[[nodiscard]] std::unique_ptr<Step> make_dynamic_dequantize(const DynamicDequantize& how);

}  // namespace kerf::engine
