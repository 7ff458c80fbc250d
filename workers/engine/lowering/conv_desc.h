#pragma once

#include <dnnl.hpp>

#include "workers/engine/geometry.h"
#include "workers/graph/graph.h"

namespace kerf::engine {

/// ONNX's row-major weights of a Conv ([output, input / groups, kernel…]) or a ConvTranspose ([input,
/// output / groups, kernel…]) as the library sees them: [groups,] output, input, kernel….
[[nodiscard]] dnnl::memory::desc conv_weights_desc(const graph::Shape& shape, graph::DType dtype, std::int64_t groups, bool transposed);

/// The pads at the end that make a ConvTranspose reach its output's extents; output_padding may ask for
/// fewer than none.
[[nodiscard]] graph::Shape transposed_ends(const Window& window);

/// The library counts the gaps between taps.
[[nodiscard]] dnnl::memory::dims dilation_gaps(const graph::Shape& dilations);

}  // namespace kerf::engine
