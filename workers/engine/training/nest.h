#pragma once

#include <cstdint>

#include "workers/graph/tensor.h"

namespace kerf::engine::training {

/// Loops over an index space in which several arrays have strides of their own.
///
/// Maths:    axes are put in the order of `order`, axes of extent 1 are left out, and neighbours
///           that every array runs through alike become one. The last axis is the innermost.
struct Nest {
  graph::Shape dims;
  std::vector<graph::Shape> strides;  ///< One for each array, of dims' size.

  Nest() = default;
  /// `order`: the axes from the outermost to the innermost.
  Nest(const graph::Shape& extents, std::vector<graph::Shape> of_arrays, const graph::Shape& order);

  [[nodiscard]] std::int64_t inner() const { return dims.empty() ? 1 : dims.back(); }
  [[nodiscard]] std::int64_t outer() const;
  [[nodiscard]] std::int64_t inner_stride(std::size_t array) const {
    return dims.empty() ? 1 : strides[array].back();
  }

  /// Calls f(offsets) for each place of the outer axes; offsets[k] is that of array k.
  template <class F>
  void for_each(F&& f) const {
    const std::size_t outer_axes = dims.empty() ? 0 : dims.size() - 1;
    graph::Shape at(outer_axes, 0);
    graph::Shape offsets(strides.size(), 0);
    for (std::int64_t i = 0, n = outer(); i < n; ++i) {
      f(offsets);
      for (std::size_t axis = outer_axes; axis-- > 0;) {
        for (std::size_t k = 0; k < offsets.size(); ++k) offsets[k] += strides[k][axis];
        if (++at[axis] < dims[axis]) break;
        for (std::size_t k = 0; k < offsets.size(); ++k) offsets[k] -= strides[k][axis] * dims[axis];
        at[axis] = 0;
      }
    }
  }
};

/// to[…] (+)= factor · from[…] through a nest of two arrays, `from` first. Where `to` has a stride of
/// 0, what meets there is summed, which needs `accumulate`.
void move(const Nest& nest, const float* from, float* to, float factor, bool accumulate);

}  // namespace kerf::engine::training
