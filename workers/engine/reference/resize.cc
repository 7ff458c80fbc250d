// Resize: nearest and linear over any axes.
#include <algorithm>
#include <cmath>

#include "workers/engine/geometry.h"
#include "workers/engine/reference/kernels.h"

namespace kerf::engine::reference {
namespace {

double source_position(const std::string& mode, std::int64_t out, std::int64_t out_extent,
                       std::int64_t in_extent, double scale) {
  const auto x = static_cast<double>(out);
  if (mode == "asymmetric") return x / scale;
  if (mode == "align_corners") {
    return out_extent <= 1 ? 0.0
                           : x * static_cast<double>(in_extent - 1) / static_cast<double>(out_extent - 1);
  }
  if (mode == "pytorch_half_pixel" && out_extent <= 1) return 0.0;
  return (x + 0.5) / scale - 0.5;  // half_pixel
}

std::int64_t nearest(const std::string& mode, double x) {
  if (mode == "floor") return static_cast<std::int64_t>(std::floor(x));
  if (mode == "ceil") return static_cast<std::int64_t>(std::ceil(x));
  if (mode == "round_prefer_ceil") return static_cast<std::int64_t>(std::floor(x + 0.5));
  return static_cast<std::int64_t>(std::ceil(x - 0.5));  // round_prefer_floor
}

/// Resizes one axis: for each output index the source taps and their weights.
Tensor along_axis(const Tensor& x, std::size_t axis, std::int64_t extent, double scale,
                  const std::string& position, const std::string& rounding, bool linear) {
  Shape shape = x.shape();
  const std::int64_t in_extent = shape[axis];
  shape[axis] = extent;
  Tensor out(x.dtype(), shape);
  const std::int64_t inner = row_major_strides(x.shape())[axis];
  const std::int64_t outer = in_extent == 0 ? 0 : x.elements() / inner / in_extent;
  dispatch(x.dtype(), [&]<class T>(T) {
    const auto from = x.as<T>();
    const auto to = out.mutable_as<T>();
    for (std::int64_t i = 0; i < extent; ++i) {
      const double at = source_position(position, i, extent, in_extent, scale);
      std::int64_t low = linear ? static_cast<std::int64_t>(std::floor(at)) : nearest(rounding, at);
      const double fraction = linear ? at - static_cast<double>(low) : 0.0;
      const std::int64_t high = std::clamp<std::int64_t>(low + 1, 0, in_extent - 1);
      low = std::clamp<std::int64_t>(low, 0, in_extent - 1);
      for (std::int64_t o = 0; o < outer; ++o) {
        for (std::int64_t k = 0; k < inner; ++k) {
          const T a = from[static_cast<std::size_t>((o * in_extent + low) * inner + k)];
          const T b = from[static_cast<std::size_t>((o * in_extent + high) * inner + k)];
          to[static_cast<std::size_t>((o * extent + i) * inner + k)] =
              linear ? static_cast<T>(static_cast<double>(a) * (1.0 - fraction) + static_cast<double>(b) * fraction)
                     : a;
        }
      }
    }
  });
  return out;
}

Outputs resize(const Node& node, Inputs inputs) {
  Tensor x = inputs[0];
  const std::string mode = node.text("mode", "nearest");
  const std::string position = node.text("coordinate_transformation_mode", "half_pixel");
  if ((mode != "nearest" && mode != "linear") || position == "tf_crop_and_resize") {
    return bad(node, "mode " + mode + " with " + position + " isn't supported");
  }
  const std::size_t rank = x.rank();
  std::vector<float> scales;
  std::vector<std::int64_t> sizes;
  if (given(inputs, 2)) scales = inputs[2].to_floats();
  if (given(inputs, 3)) sizes = inputs[3].to_integers();
  std::vector<std::int64_t> axes = node.integers("axes");
  if (axes.empty()) {
    for (std::size_t i = 0; i < rank; ++i) axes.push_back(static_cast<std::int64_t>(i));
  }
  if ((sizes.empty() ? scales.size() : sizes.size()) != axes.size()) {
    return bad(node, "sizes or scales don't fit the axes");
  }
  for (std::size_t i = 0; i < axes.size(); ++i) {
    const std::int64_t axis = normalized_axis(axes[i], rank);
    if (axis < 0) return bad(node, "axis outside the input");
    const auto at = static_cast<std::size_t>(axis);
    const std::int64_t before = x.dim(at);
    const std::int64_t extent =
        sizes.empty() ? static_cast<std::int64_t>(std::floor(static_cast<double>(before) * static_cast<double>(scales[i])))
                      : sizes[i];
    if (extent < 0 || extent > (1 << 24)) return bad(node, "no sensible size");
    const double scale = sizes.empty() ? static_cast<double>(scales[i])
                                       : static_cast<double>(extent) / static_cast<double>(std::max<std::int64_t>(before, 1));
    if (extent == before && scale == 1.0) continue;
    x = along_axis(x, at, extent, scale, position, node.text("nearest_mode", "round_prefer_floor"),
                   mode == "linear");
  }
  return std::vector<Tensor>{std::move(x)};
}

}  // namespace

void add_resize(Registry& registry) { registry["Resize"] = resize; }

}  // namespace kerf::engine::reference
