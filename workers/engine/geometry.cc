#include "workers/engine/geometry.h"

#include <algorithm>

namespace kerf::engine {

using graph::Node;
using graph::Shape;

namespace {

Shape filled(const Node& node, const std::string& name, std::size_t count, std::int64_t value) {
  return node.integers(name, Shape(count, value));
}

Result<Window> start(const Node& node, const Shape& input, Shape kernel) {
  Window w;
  if (input.size() < 3) {
    return invalid_argument("node " + node.label() + ": input " + graph::to_string(input) +
                            " has no spatial axis");
  }
  const std::size_t n = input.size() - 2;
  w.input.assign(input.begin() + 2, input.end());
  w.kernel = std::move(kernel);
  w.strides = filled(node, "strides", n, 1);
  w.dilations = filled(node, "dilations", n, 1);
  const Shape pads = filled(node, "pads", 2 * n, 0);
  w.groups = node.integer("group", 1);
  if (w.kernel.size() != n || w.strides.size() != n || w.dilations.size() != n ||
      pads.size() != 2 * n) {
    return invalid_argument("node " + node.label() + ": kernel, strides, dilations and pads don't "
                            "fit an input of rank " + std::to_string(input.size()));
  }
  w.pads_begin.assign(pads.begin(), pads.begin() + static_cast<std::ptrdiff_t>(n));
  w.pads_end.assign(pads.begin() + static_cast<std::ptrdiff_t>(n), pads.end());
  for (std::size_t i = 0; i < n; ++i) {
    if (w.kernel[i] < 1 || w.strides[i] < 1 || w.dilations[i] < 1 || w.pads_begin[i] < 0 ||
        w.pads_end[i] < 0) {
      return invalid_argument("node " + node.label() + ": kernel, strides and dilations must be "
                              "positive, pads not negative");
    }
  }
  return w;
}

Result<Window> finish(const Node& node, Window w) {
  const std::string auto_pad = node.text("auto_pad", "NOTSET");
  const bool ceil_mode = node.integer("ceil_mode", 0) != 0;
  for (std::size_t i = 0; i < w.kernel.size(); ++i) {
    const std::int64_t reach = (w.kernel[i] - 1) * w.dilations[i] + 1;
    if (auto_pad == "VALID") w.pads_begin[i] = w.pads_end[i] = 0;
    if (auto_pad == "SAME_UPPER" || auto_pad == "SAME_LOWER") {
      const std::int64_t out = (w.input[i] + w.strides[i] - 1) / w.strides[i];
      const std::int64_t total =
          std::max<std::int64_t>(0, (out - 1) * w.strides[i] + reach - w.input[i]);
      w.pads_begin[i] = auto_pad == "SAME_UPPER" ? total / 2 : total - total / 2;
      w.pads_end[i] = total - w.pads_begin[i];
    }
    const std::int64_t room = w.input[i] + w.pads_begin[i] + w.pads_end[i] - reach;
    if (room < 0) {
      return invalid_argument("node " + node.label() + ": the kernel is larger than the padded "
                              "input on spatial axis " + std::to_string(i));
    }
    std::int64_t out = room / w.strides[i] + 1;
    if (ceil_mode && room % w.strides[i] != 0) {
      // A window that would start behind the input and its front padding doesn't count.
      if (out * w.strides[i] < w.input[i] + w.pads_begin[i]) {
        ++out;
        w.pads_end[i] = (out - 1) * w.strides[i] + reach - w.input[i] - w.pads_begin[i];
      }
    }
    w.output.push_back(out);
  }
  return w;
}

}  // namespace

Result<Window> conv_window(const Node& node, const Shape& input, const Shape& weights) {
  if (weights.size() != input.size() || weights.size() < 3) {
    return invalid_argument("node " + node.label() + ": weights " + graph::to_string(weights) +
                            " don't fit an input " + graph::to_string(input));
  }
  KERF_ASSIGN(Window w, start(node, input, Shape(weights.begin() + 2, weights.end())));
  if (w.groups < 1 || weights[0] % w.groups != 0 || input[1] != weights[1] * w.groups) {
    return invalid_argument("node " + node.label() + ": " + std::to_string(input[1]) +
                            " input channels, but weights " + graph::to_string(weights) +
                            " in " + std::to_string(w.groups) + " groups");
  }
  return finish(node, std::move(w));
}

Result<Window> pool_window(const Node& node, const Shape& input) {
  KERF_ASSIGN(Window w, start(node, input, node.integers("kernel_shape")));
  return finish(node, std::move(w));
}

Result<Window> transposed_window(const Node& node, const Shape& input, const Shape& weights) {
  if (weights.size() != input.size() || weights.size() < 3) {
    return invalid_argument("node " + node.label() + ": weights " + graph::to_string(weights) +
                            " don't fit an input " + graph::to_string(input));
  }
  KERF_ASSIGN(Window w, start(node, input, Shape(weights.begin() + 2, weights.end())));
  const std::size_t n = w.kernel.size();
  if (w.groups < 1 || input[1] != weights[0] || input[1] % w.groups != 0) {
    return invalid_argument("node " + node.label() + ": " + std::to_string(input[1]) +
                            " input channels, but weights " + graph::to_string(weights));
  }
  const Shape extra = node.integers("output_padding", Shape(n, 0));
  const Shape wanted = node.integers("output_shape");
  const std::string auto_pad = node.text("auto_pad", "NOTSET");
  for (std::size_t i = 0; i < n; ++i) {
    const std::int64_t reach = (w.kernel[i] - 1) * w.dilations[i] + 1;
    const std::int64_t full = (w.input[i] - 1) * w.strides[i] + reach + extra.at(i);
    const bool same = auto_pad == "SAME_UPPER" || auto_pad == "SAME_LOWER";
    if (auto_pad == "VALID") w.pads_begin[i] = w.pads_end[i] = 0;
    if (same || wanted.size() == n) {
      const std::int64_t out = wanted.size() == n ? wanted[i] : w.input[i] * w.strides[i];
      const std::int64_t total = std::max<std::int64_t>(0, full - out);
      w.pads_begin[i] = auto_pad == "SAME_UPPER" ? total / 2 : total - total / 2;
      w.pads_end[i] = total - w.pads_begin[i];
    }
    // A wanted extent beyond what the taps reach is filled with zeros behind them.
    w.output.push_back(wanted.size() == n ? wanted[i]
                       : same             ? w.input[i] * w.strides[i]
                                          : full - w.pads_begin[i] - w.pads_end[i]);
    if (w.output.back() < 1) {
      return invalid_argument("node " + node.label() + ": pads leave no output");
    }
  }
  return w;
}

Shape row_major_strides(const Shape& shape) {
  Shape strides(shape.size(), 1);
  for (std::size_t i = shape.size(); i-- > 1;) strides[i - 1] = strides[i] * shape[i];
  return strides;
}

std::int64_t normalized_axis(std::int64_t axis, std::size_t rank) {
  const auto count = static_cast<std::int64_t>(rank);
  if (axis < -count || axis >= count) return -1;
  return axis < 0 ? axis + count : axis;
}

Result<Shape> broadcast_shapes(const Shape& a, const Shape& b) {
  Shape out(std::max(a.size(), b.size()), 1);
  for (std::size_t i = 0; i < out.size(); ++i) {
    const std::int64_t x = i < a.size() ? a[a.size() - 1 - i] : 1;
    const std::int64_t y = i < b.size() ? b[b.size() - 1 - i] : 1;
    if (x != y && x != 1 && y != 1) {
      return invalid_argument("shapes " + graph::to_string(a) + " and " + graph::to_string(b) +
                              " don't broadcast");
    }
    out[out.size() - 1 - i] = x == 1 ? y : x;
  }
  return out;
}

Shape broadcast_strides(const Shape& shape, const Shape& target) {
  const Shape own = row_major_strides(shape);
  Shape strides(target.size(), 0);
  for (std::size_t i = 0; i < shape.size(); ++i) {
    const std::size_t at = target.size() - shape.size() + i;
    strides[at] = shape[i] == 1 ? 0 : own[i];
  }
  return strides;
}

Result<SliceRange> slice_ranges(const Node& node, const Shape& shape,
                                const std::vector<std::int64_t>& starts,
                                const std::vector<std::int64_t>& ends,
                                const std::vector<std::int64_t>& axes,
                                const std::vector<std::int64_t>& steps) {
  SliceRange range{Shape(shape.size(), 0), Shape(shape.size(), 1), shape};
  if (starts.size() != ends.size() || (!axes.empty() && axes.size() != starts.size()) ||
      (!steps.empty() && steps.size() != starts.size())) {
    return invalid_argument("node " + node.label() + ": starts, ends, axes and steps differ in "
                            "length");
  }
  for (std::size_t i = 0; i < starts.size(); ++i) {
    const std::int64_t axis = normalized_axis(
        axes.empty() ? static_cast<std::int64_t>(i) : axes[i], shape.size());
    const std::int64_t step = steps.empty() ? 1 : steps[i];
    if (axis < 0 || step == 0) {
      return invalid_argument("node " + node.label() + ": axis outside the input, or step 0");
    }
    const auto at = static_cast<std::size_t>(axis);
    const std::int64_t extent = shape[at];
    const auto clamp = [&](std::int64_t v, std::int64_t low, std::int64_t high) {
      if (v < 0) v = v < -extent ? -1 - extent : v + extent;
      return std::clamp(v, low, high);
    };
    const std::int64_t first = step > 0 ? clamp(starts[i], 0, extent)
                                        : clamp(starts[i], 0, std::max<std::int64_t>(extent - 1, 0));
    const std::int64_t last = step > 0 ? clamp(ends[i], 0, extent) : clamp(ends[i], -1, extent - 1);
    const std::int64_t span = step > 0 ? last - first : first - last;
    const std::int64_t size = step > 0 ? step : -(step + 1) + 1;
    range.start[at] = first;
    range.step[at] = step;
    range.count[at] = span <= 0 || extent == 0 ? 0 : (span - 1) / size + 1;
  }
  return range;
}

}  // namespace kerf::engine
