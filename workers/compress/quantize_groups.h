#pragma once

#include <cstddef>
#include <cstdint>

#include "core/result.h"
#include "workers/compress/quantize_weights.h"
#include "workers/graph/tensor.h"

namespace kerf::compress {

/// Rounds a matrix with a scale for each `group` weights that follow one another along the input
/// axis of an output channel.
///
/// Shapes:   weights [in, out] or [out, in]; `axis`: of the output channels. Scales, and zero points
///           where there are any, lie as the weights do, with ⌈in / group⌉ instead of in: ONNX's
///           blocked form (opset 21, block_size).
/// Maths:    each group by quantize_weights or (not symmetric) quantize_asymmetric; the last one of
///           a channel may be shorter.
/// Errors:   theirs.
[[nodiscard]] Result<QuantizedWeights> quantize_groups(const graph::Tensor& weights,
                                                       std::size_t axis, std::int64_t group,
                                                       bool symmetric,
                                                       const WeightQuantization& how);

}  // namespace kerf::compress
