#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace kerf::engine {

/// One axis of a Resize: [outer, in, inner] -> [outer, out, inner]. Output i is the sum over k of
/// weights[i * taps + k] times source indices[i * taps + k]; with one tap of weight 1 all over it is
/// a copy.
struct AxisResize {
  std::int64_t outer = 1, in = 1, out = 1, inner = 1;
  std::int64_t taps = 1;
  std::vector<std::int32_t> indices;
  std::vector<float> weights;  ///< Empty: copies.
  int threads = 1;
};
void resize_axis(const AxisResize& what, const float* x, float* y);
/// Copies of elements of any size.
void resize_axis(const AxisResize& what, const std::byte* x, std::byte* y, std::size_t element_size);

}  // namespace kerf::engine
