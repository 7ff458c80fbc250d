#pragma once

#include <functional>

#include "workers/engine/lowering/light.h"

namespace kerf::engine {

/// Whether sums of products of these s8 weights with bytes are exact on this processor. Without VNNI the library
/// adds them up in pairs of 16 bits, which saturate: 2 * 255 * 65 > 32767.
[[nodiscard]] bool sums_are_exact(const graph::Tensor& weights);

/// Appends u8 * weights as s32; nullopt where the library has no primitive.
using EmitSums = std::function<std::optional<SlotId>(const graph::Tensor& weights, const char* what)>;

/// The same by `emit`, right on every processor: where these weights' pairs don't fit, once for what a
/// division by 2 leaves of them and once for its remainders. Exact with VNNI; without, the library's stores pass
/// through floats, which round sums beyond 2^24.
///
/// Shapes:   `dims` are those of the sums, which lie in `layout`.
[[nodiscard]] std::optional<SlotId> emit_exact_sums(Values& values, const graph::Node& node, const graph::Tensor& weights,
                                                    const graph::Shape& dims, Layout layout, const EmitSums& emit);

}  // namespace kerf::engine
