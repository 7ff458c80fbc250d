// Ops that put windows or maxima back where they came from, or read regions: Col2Im, MaxUnpool,
// RoiAlign.
#include <algorithm>
#include <cmath>

#include "workers/engine/geometry.h"
#include "workers/engine/reference/kernels.h"

namespace kerf::engine::reference {
namespace {

Outputs col_to_image(const Node& node, Inputs inputs) {
  const Tensor& x = inputs[0];
  const Shape image = inputs[1].to_integers();
  const Shape block = inputs[2].to_integers();
  const std::size_t dims = image.size();
  const Shape ones(dims, 1);
  const Shape strides = node.integers("strides", ones);
  const Shape dilations = node.integers("dilations", ones);
  const Shape pads = node.integers("pads", Shape(2 * dims, 0));
  if (x.dtype() != DType::kF32 || x.rank() != 3 || block.size() != dims || strides.size() != dims ||
      dilations.size() != dims || pads.size() != 2 * dims) {
    return bad(node, "block, strides or pads don't fit the image");
  }
  Shape steps;
  for (std::size_t i = 0; i < dims; ++i) {
    if (image[i] < 1 || block[i] < 1 || strides[i] < 1 || dilations[i] < 1)
      return bad(node, "image, block, strides and dilations must be positive");
    const std::int64_t room = image[i] + pads[i] + pads[i + dims] - dilations[i] * (block[i] - 1) - 1;
    if (room < 0) return bad(node, "the block is larger than the image");
    steps.push_back(room / strides[i] + 1);
  }
  const auto taps = graph::element_count(block);
  const auto places = graph::element_count(steps);
  if (!taps || !places || x.dim(2) != *places || x.dim(1) % *taps != 0)
    return bad(node, "columns don't fit block and image");
  const std::int64_t channels = x.dim(1) / *taps;
  Shape shape{x.dim(0), channels};
  shape.insert(shape.end(), image.begin(), image.end());
  if (!graph::element_count(shape)) return bad(node, "dimensions overflow");
  Tensor out(DType::kF32, shape);
  const std::int64_t plane = *graph::element_count(image);
  const auto from = x.as<float>();
  const auto to = out.mutable_as<float>();
  for (std::int64_t tap = 0; tap < *taps; ++tap) {
    for (std::int64_t place = 0; place < *places; ++place) {
      std::int64_t rest_tap = tap;
      std::int64_t rest_place = place;
      std::int64_t offset = 0;
      std::int64_t step = 1;
      bool inside = true;
      for (std::size_t i = dims; i-- > 0;) {
        const std::int64_t at = rest_place % steps[i] * strides[i] +
                                rest_tap % block[i] * dilations[i] - pads[i];
        rest_place /= steps[i];
        rest_tap /= block[i];
        inside = inside && at >= 0 && at < image[i];
        offset += at * step;
        step *= image[i];
      }
      if (!inside) continue;
      for (std::int64_t c = 0; c < x.dim(0) * channels; ++c) {
        to[static_cast<std::size_t>(c * plane + offset)] +=
            from[static_cast<std::size_t>((c * *taps + tap) * *places + place)];
      }
    }
  }
  return std::vector<Tensor>{std::move(out)};
}

Outputs max_unpool(const Node& node, Inputs inputs) {
  const Tensor& x = inputs[0];
  if (x.rank() < 3 || inputs[1].shape() != x.shape() || x.dtype() != DType::kF32)
    return bad(node, "indices don't fit the input");
  const std::size_t dims = x.rank() - 2;
  const Shape kernel = node.integers("kernel_shape");
  const Shape strides = node.integers("strides", Shape(dims, 1));
  const Shape pads = node.integers("pads", Shape(2 * dims, 0));
  if (kernel.size() != dims || strides.size() != dims || pads.size() != 2 * dims)
    return bad(node, "kernel_shape, strides or pads don't fit the input");
  Shape own{x.dim(0), x.dim(1)};
  for (std::size_t i = 0; i < dims; ++i) {
    own.push_back((x.dim(i + 2) - 1) * strides[i] + kernel[i] - pads[i] - pads[i + dims]);
  }
  Shape shape = given(inputs, 2) ? inputs[2].to_integers() : own;
  if (shape.size() != own.size() || !graph::element_count(own) || !graph::element_count(shape))
    return bad(node, "no sensible output shape");
  for (std::size_t i = 0; i < own.size(); ++i) {
    if (shape[i] < own[i]) return bad(node, "output_shape is smaller than what was pooled");
  }
  Tensor out(DType::kF32, shape);
  const Shape target = row_major_strides(shape);
  const std::int64_t count = *graph::element_count(own);
  const std::vector<std::int64_t> indices = inputs[1].to_integers();
  const auto from = x.as<float>();
  const auto to = out.mutable_as<float>();
  for (std::size_t k = 0; k < indices.size(); ++k) {
    std::int64_t rest = indices[k];
    if (rest < 0 || rest >= count) return bad(node, "an index is outside the output");
    std::int64_t offset = 0;
    for (std::size_t i = own.size(); i-- > 0;) {
      offset += rest % own[i] * target[i];
      rest /= own[i];
    }
    to[static_cast<std::size_t>(offset)] = from[k];
  }
  return std::vector<Tensor>{std::move(out)};
}

/// Four neighbours of a place between elements, with their weights.
struct Corners {
  std::array<std::size_t, 4> at{};
  std::array<double, 4> weight{};
};

Corners corners(double y, double x, std::int64_t height, std::int64_t width) {
  Corners out;
  if (y < -1 || y > static_cast<double>(height) || x < -1 || x > static_cast<double>(width)) return out;
  const auto split = [](double v, std::int64_t extent) {
    v = std::max(v, 0.0);
    auto low = static_cast<std::int64_t>(v);
    if (low >= extent - 1) return std::tuple(extent - 1, extent - 1, 0.0);
    return std::tuple(low, low + 1, v - static_cast<double>(low));
  };
  const auto [y0, y1, fy] = split(y, height);
  const auto [x0, x1, fx] = split(x, width);
  const auto flat = [&](std::int64_t row, std::int64_t column) {
    return static_cast<std::size_t>(row * width + column);
  };
  out.at = {flat(y0, x0), flat(y0, x1), flat(y1, x0), flat(y1, x1)};
  out.weight = {(1 - fy) * (1 - fx), (1 - fy) * fx, fy * (1 - fx), fy * fx};
  return out;
}

Outputs roi_align(const Node& node, Inputs inputs) {
  const Tensor& x = inputs[0];
  const Tensor& rois = inputs[1];
  if (x.dtype() != DType::kF32 || rois.dtype() != DType::kF32 || x.rank() != 4 ||
      rois.rank() != 2 || rois.dim(1) != 4 || inputs[2].elements() != rois.dim(0)) {
    return bad(node, "regions don't fit the input");
  }
  const std::int64_t out_height = node.integer("output_height", 1);
  const std::int64_t out_width = node.integer("output_width", 1);
  const std::int64_t ratio = node.integer("sampling_ratio", 0);
  const auto scale = static_cast<double>(node.real("spatial_scale", 1.0F));
  const bool half = node.text("coordinate_transformation_mode", "half_pixel") == "half_pixel";
  const bool average = node.text("mode", "avg") == "avg";
  if (out_height < 1 || out_width < 1 || ratio < 0 || ratio > 1024)
    return bad(node, "output size and sampling_ratio must be positive");
  const Shape shape{rois.dim(0), x.dim(1), out_height, out_width};
  if (!graph::element_count(shape)) return bad(node, "dimensions overflow");
  Tensor out(DType::kF32, shape);
  const std::vector<std::int64_t> images = inputs[2].to_integers();
  const auto from = x.as<float>();
  const auto to = out.mutable_as<float>();
  const auto plane = static_cast<std::size_t>(x.dim(2) * x.dim(3));
  std::size_t next = 0;
  for (std::size_t r = 0; r < images.size(); ++r) {
    if (images[r] < 0 || images[r] >= x.dim(0)) return bad(node, "a region names no image");
    const auto edge = [&](std::size_t i) {
      return static_cast<double>(rois.as<float>()[r * 4 + i]) * scale - (half ? 0.5 : 0.0);
    };
    const double left = edge(0);
    const double top = edge(1);
    double width = edge(2) - left;
    double height = edge(3) - top;
    if (!std::isfinite(left) || !std::isfinite(top) || !(std::fabs(width) < 1e6) || !(std::fabs(height) < 1e6))
      return bad(node, "a region isn't finite");
    if (!half) {
      width = std::max(width, 1.0);
      height = std::max(height, 1.0);
    }
    const double bin_height = height / static_cast<double>(out_height);
    const double bin_width = width / static_cast<double>(out_width);
    const auto samples = [&](double bin) {
      return ratio > 0 ? ratio : std::max<std::int64_t>(0, static_cast<std::int64_t>(std::ceil(bin)));
    };
    const std::int64_t rows = samples(bin_height);
    const std::int64_t columns = samples(bin_width);
    for (std::int64_t c = 0; c < x.dim(1); ++c) {
      const float* data = from.data() + static_cast<std::size_t>(images[r] * x.dim(1) + c) * plane;
      for (std::int64_t i = 0; i < out_height * out_width; ++i) {
        double sum = 0;
        bool first = true;
        for (std::int64_t s = 0; s < rows * columns; ++s) {
          const double y = top + bin_height * (static_cast<double>(i / out_width) +
                                               (static_cast<double>(s / columns) + 0.5) / static_cast<double>(rows));
          const double at = left + bin_width * (static_cast<double>(i % out_width) +
                                                (static_cast<double>(s % columns) + 0.5) / static_cast<double>(columns));
          const Corners near = corners(y, at, x.dim(2), x.dim(3));
          // A maximum is one of weighted neighbours, as the standard's reference has it.
          double value = average ? 0.0 : -INFINITY;
          for (std::size_t k = 0; k < 4; ++k) {
            const double part = near.weight[k] * static_cast<double>(data[near.at[k]]);
            value = average ? value + part : std::max(value, part);
          }
          sum = average ? sum + value : first ? value : std::max(sum, value);
          first = false;
        }
        if (average) sum /= static_cast<double>(std::max<std::int64_t>(rows * columns, 1));
        to[next++] = static_cast<float>(sum);
      }
    }
  }
  return std::vector<Tensor>{std::move(out)};
}

}  // namespace

void add_placing(Registry& registry) {
  registry["Col2Im"] = col_to_image;
  registry["MaxUnpool"] = max_unpool;
  registry["RoiAlign"] = roi_align;
}

}  // namespace kerf::engine::reference
