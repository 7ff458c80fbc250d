#pragma once

#include <cstdint>

#include "core/result.h"
#include "workers/graph/graph.h"

namespace kerf::engine {

/// How a window (convolution or pooling) moves over the spatial axes, all attributes resolved:
/// auto_pad, ceil_mode and defaults. One entry a spatial axis.
struct Window {
  graph::Shape input;   ///< Spatial extents of the input.
  graph::Shape kernel;
  graph::Shape strides;
  graph::Shape dilations;
  graph::Shape pads_begin;
  graph::Shape pads_end;  ///< As far as the last window reaches, which ceil_mode may enlarge.
  graph::Shape output;
  std::int64_t groups = 1;
};

/// Errors:   invalid_argument naming the node where ranks, groups or extents don't fit.
[[nodiscard]] Result<Window> conv_window(const graph::Node& node, const graph::Shape& input,
                                         const graph::Shape& weights);
[[nodiscard]] Result<Window> pool_window(const graph::Node& node, const graph::Shape& input);
/// For ConvTranspose; `weights` is [in, out / groups, kernel…]. pads are those that crop the output.
[[nodiscard]] Result<Window> transposed_window(const graph::Node& node, const graph::Shape& input,
                                               const graph::Shape& weights);

/// Row-major strides in elements.
[[nodiscard]] graph::Shape row_major_strides(const graph::Shape& shape);

/// An axis that may be negative, as an index below `rank`; -1 where it is outside.
[[nodiscard]] std::int64_t normalized_axis(std::int64_t axis, std::size_t rank);

/// NumPy's rule.
///
/// Errors:   invalid_argument where two extents differ and neither is 1.
[[nodiscard]] Result<graph::Shape> broadcast_shapes(const graph::Shape& a, const graph::Shape& b);

/// Strides with which a tensor of `shape` (row-major) is read when broadcast to `target`.
[[nodiscard]] graph::Shape broadcast_strides(const graph::Shape& shape, const graph::Shape& target);

/// Slice's inputs resolved against a shape: for each axis start, step and number of elements.
struct SliceRange {
  graph::Shape start, step, count;
};
[[nodiscard]] Result<SliceRange> slice_ranges(const graph::Node& node, const graph::Shape& shape,
                                              const std::vector<std::int64_t>& starts,
                                              const std::vector<std::int64_t>& ends,
                                              const std::vector<std::int64_t>& axes,
                                              const std::vector<std::int64_t>& steps);

}  // namespace kerf::engine
