// Resize: nearest, linear and cubic over any axes, one axis after the other.
#include <algorithm>
#include <cmath>

#include "workers/engine/geometry.h"
#include "workers/engine/reference/resize.h"

namespace kerf::engine::reference {
namespace {

struct Settings {
  std::string mode, position, rounding;
  double cubic_a = -0.75;
  bool antialias = false, exclude_outside = false;
  double extrapolation = 0;
};

/// One axis: extents, the factor between them, and the part of it that tf_crop_and_resize takes.
struct Axis {
  std::int64_t in = 0, out = 0;
  double scale = 1, roi_begin = 0, roi_end = 1;
};

double source_position(const std::string& mode, std::int64_t at, const Axis& axis) {
  const auto x = static_cast<double>(at);
  const auto in = static_cast<double>(axis.in);
  const auto out = static_cast<double>(axis.out);
  if (mode == "asymmetric") return x / axis.scale;
  if (mode == "align_corners") return axis.out <= 1 ? 0.0 : x * (in - 1) / (out - 1);
  if (mode == "tf_crop_and_resize") {
    const double width = (axis.roi_end - axis.roi_begin) * (in - 1);
    return axis.roi_begin * (in - 1) + (axis.out <= 1 ? width / 2 : x * width / (out - 1));
  }
  if (mode == "pytorch_half_pixel" && axis.out <= 1) return 0.0;
  const double shift =
      mode == "half_pixel_symmetric" ? in / 2 * (1 - out / (axis.scale * in)) : 0.0;
  return shift + (x + 0.5) / axis.scale - 0.5;  // half_pixel
}

std::int64_t nearest(const std::string& mode, double x) {
  if (mode == "floor") return static_cast<std::int64_t>(std::floor(x));
  if (mode == "ceil") return static_cast<std::int64_t>(std::ceil(x));
  if (mode == "round_prefer_ceil") return static_cast<std::int64_t>(std::floor(x + 0.5));
  return static_cast<std::int64_t>(std::ceil(x - 0.5));  // round_prefer_floor
}

/// Keys' cubic convolution.
double cubic(double a, double x) {
  x = std::fabs(x);
  if (x <= 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a;
  return 0;
}

/// What one output index takes: source indices with weights. Empty: it lies outside the crop.
std::vector<std::pair<std::int64_t, double>> taps_of(const Settings& s, const Axis& axis,
                                                     std::int64_t at) {
  const double x = source_position(s.position, at, axis);
  const auto last = axis.in - 1;
  if (s.position == "tf_crop_and_resize" && (x < 0 || x > static_cast<double>(last))) return {};
  if (s.mode == "nearest")
    return {{std::clamp<std::int64_t>(nearest(s.rounding, x), 0, last), 1.0}};
  const auto base = static_cast<std::int64_t>(std::floor(x));
  const double ratio = x - static_cast<double>(base);
  const bool linear = s.mode == "linear";
  // Shrinking with antialias widens the filter.
  const double widen = s.antialias ? std::min(axis.scale, 1.0) : 1.0;
  const double reach = linear ? 1.0 : 2.0;
  const auto first = static_cast<std::int64_t>(std::floor(-reach / widen)) + 1;
  std::vector<std::pair<std::int64_t, double>> taps;
  double sum = 0;
  for (std::int64_t i = first; i <= 1 - first; ++i) {
    const double distance = (static_cast<double>(i) - ratio) * widen;
    double weight = linear ? std::max(0.0, 1 - std::fabs(distance)) : cubic(s.cubic_a, distance);
    const std::int64_t from = base + i;
    if (s.exclude_outside && (from < 0 || from > last)) weight = 0;
    taps.emplace_back(std::clamp<std::int64_t>(from, 0, last), weight);
    sum += weight;
  }
  if ((s.antialias || s.exclude_outside) && sum != 0) {
    for (auto& [from, weight] : taps) weight /= sum;
  }
  return taps;
}

Tensor along_axis(const Tensor& x, const ResizedAxis& axis, bool copies, double extrapolation) {
  Shape shape = x.shape();
  shape[axis.axis] = axis.out;
  Tensor out(x.dtype(), shape);
  const std::int64_t inner = row_major_strides(x.shape())[axis.axis];
  const std::int64_t outer = axis.in == 0 || inner == 0 ? 0 : x.elements() / inner / axis.in;
  dispatch(x.dtype(), [&]<class T>(T) {
    const auto from = x.as<T>();
    const auto to = out.mutable_as<T>();
    for (std::int64_t i = 0; outer > 0 && i < axis.out; ++i) {
      const auto& taps = axis.taps[static_cast<std::size_t>(i)];
      for (std::int64_t o = 0; o < outer; ++o) {
        for (std::int64_t k = 0; k < inner; ++k) {
          const auto source = [&](std::int64_t p) {
            return from[static_cast<std::size_t>((o * axis.in + p) * inner + k)];
          };
          T& target = to[static_cast<std::size_t>((o * axis.out + i) * inner + k)];
          if (taps.empty()) {
            target = static_cast<T>(extrapolation);
          } else if (copies) {
            target = source(taps[0].first);
          } else {
            double sum = 0;
            for (const auto& [p, weight] : taps) sum += weight * static_cast<double>(source(p));
            target = static_cast<T>(sum);
          }
        }
      }
    }
  });
  return out;
}

Outputs resize(const Node& node, Inputs inputs) {
  Tensor x = inputs[0];
  KERF_ASSIGN(const std::vector<ResizedAxis> axes, resized_axes(node, x.shape(), inputs));
  const bool copies = node.text("mode", "nearest") == "nearest";
  const auto extrapolation = static_cast<double>(node.real("extrapolation_value", 0.0F));
  for (const ResizedAxis& axis : axes) x = along_axis(x, axis, copies, extrapolation);
  return std::vector<Tensor>{std::move(x)};
}

}  // namespace

Result<std::vector<ResizedAxis>> resized_axes(const Node& node, const Shape& shape, Inputs inputs) {
  Settings settings;
  settings.mode = node.text("mode", "nearest");
  settings.position = node.text("coordinate_transformation_mode", "half_pixel");
  settings.rounding = node.text("nearest_mode", "round_prefer_floor");
  settings.cubic_a = static_cast<double>(node.real("cubic_coeff_a", -0.75F));
  settings.antialias = node.integer("antialias", 0) != 0;
  settings.exclude_outside = node.integer("exclude_outside", 0) != 0;
  if (settings.mode != "nearest" && settings.mode != "linear" && settings.mode != "cubic")
    return bad(node, "mode " + settings.mode + " isn't supported");
  const std::size_t rank = shape.size();
  std::vector<float> scales;
  std::vector<std::int64_t> sizes;
  std::vector<float> roi;
  if (given(inputs, 1)) roi = inputs[1].to_floats();
  if (given(inputs, 2)) scales = inputs[2].to_floats();
  if (given(inputs, 3)) sizes = inputs[3].to_integers();
  if ((sizes.empty() ? scales.size() : sizes.size()) != rank)
    return bad(node, "sizes or scales don't fit the axes");
  const bool crops = settings.position == "tf_crop_and_resize";
  if (crops && roi.size() != 2 * rank) return bad(node, "roi doesn't fit the axes");
  std::vector<ResizedAxis> out;
  for (std::size_t at = 0; at < rank; ++at) {
    Axis axis;
    axis.in = shape[at];
    axis.out = sizes.empty() ? static_cast<std::int64_t>(std::floor(
                                   static_cast<double>(axis.in) * static_cast<double>(scales[at])))
                             : sizes[at];
    if (axis.out < 0 || axis.out > (1 << 24)) return bad(node, "no sensible size");
    axis.scale = sizes.empty() ? static_cast<double>(scales[at])
                               : static_cast<double>(axis.out) /
                                     static_cast<double>(std::max<std::int64_t>(axis.in, 1));
    if (crops) {
      axis.roi_begin = static_cast<double>(roi[at]);
      axis.roi_end = static_cast<double>(roi[at + rank]);
    }
    const bool whole = !crops || (axis.roi_begin == 0 && axis.roi_end == 1);
    if (axis.out == axis.in && axis.scale == 1.0 && whole) continue;
    ResizedAxis made{at, axis.in, axis.out, {}};
    for (std::int64_t i = 0; axis.in > 0 && i < axis.out; ++i) made.taps.push_back(taps_of(settings, axis, i));
    out.push_back(std::move(made));
  }
  return out;
}

void add_resize(Registry& registry) { registry["Resize"] = resize; }

}  // namespace kerf::engine::reference
