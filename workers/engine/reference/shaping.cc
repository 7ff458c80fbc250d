// Ops that change shapes or move whole elements, and those that speak about shapes.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <set>

#include "workers/engine/geometry.h"
#include "workers/engine/reference/kernels.h"

namespace kerf::engine::reference {
namespace {

/// out[i] = x[offset + sum index*stride]: the core of every op that only moves elements.
Tensor gathered(const Tensor& x, const Shape& shape, const Shape& strides, std::int64_t offset) {
  Tensor out(x.dtype(), shape);
  const std::size_t size = graph::element_size(x.dtype());
  std::byte* to = out.mutable_raw();
  walk(shape, std::array<Shape, 1>{strides}, [&](const auto& at) {
    std::memcpy(to, x.raw() + static_cast<std::size_t>(offset + at[0]) * size, size);
    to += size;
  });
  return out;
}

Outputs one(Tensor tensor) { return std::vector<Tensor>{std::move(tensor)}; }

Outputs reshape_to(const Node& node, const Tensor& x, Shape shape) {
  const auto count = graph::element_count(shape);
  if (!count || *count != x.elements()) {
    return bad(node, graph::to_string(x.shape()) + " doesn't reshape to " + graph::to_string(shape));
  }
  return one(x.reshaped(std::move(shape)));
}

Outputs reshape(const Node& node, Inputs inputs) {
  const Tensor& x = inputs[0];
  Shape shape = inputs[1].to_integers();
  std::int64_t known = 1;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (shape[i] == 0 && node.integer("allowzero", 0) == 0) {
      if (i >= x.rank()) return bad(node, "0 in the shape has no extent to copy");
      shape[i] = x.dim(i);
    }
    if (shape[i] != -1) known *= shape[i];
  }
  for (std::int64_t& extent : shape) {
    if (extent == -1) extent = known == 0 ? 0 : x.elements() / known;
  }
  return reshape_to(node, x, shape);
}

Outputs flatten(const Node& node, Inputs inputs) {
  const Tensor& x = inputs[0];
  std::int64_t axis = node.integer("axis", 1);
  if (axis < 0) axis += static_cast<std::int64_t>(x.rank());
  if (axis < 0 || axis > static_cast<std::int64_t>(x.rank())) return bad(node, "axis outside the input");
  std::int64_t rows = 1;
  std::int64_t columns = 1;
  for (std::size_t i = 0; i < x.rank(); ++i) {
    (static_cast<std::int64_t>(i) < axis ? rows : columns) *= x.dim(i);
  }
  return reshape_to(node, x, {rows, columns});
}

Outputs squeeze(const Node& node, Inputs inputs) {
  const Tensor& x = inputs[0];
  std::set<std::int64_t> axes;
  std::vector<std::int64_t> wanted = node.integers("axes");
  if (given(inputs, 1)) wanted = inputs[1].to_integers();
  for (const std::int64_t axis : wanted) axes.insert(normalized_axis(axis, x.rank()));
  Shape shape;
  for (std::size_t i = 0; i < x.rank(); ++i) {
    const bool drop = wanted.empty() ? x.dim(i) == 1 : axes.contains(static_cast<std::int64_t>(i));
    if (!drop) shape.push_back(x.dim(i));
  }
  return reshape_to(node, x, shape);
}

Outputs unsqueeze(const Node& node, Inputs inputs) {
  const Tensor& x = inputs[0];
  std::vector<std::int64_t> wanted = node.integers("axes");
  if (given(inputs, 1)) wanted = inputs[1].to_integers();
  const std::size_t rank = x.rank() + wanted.size();
  std::set<std::int64_t> axes;
  for (const std::int64_t axis : wanted) {
    const std::int64_t at = normalized_axis(axis, rank);
    if (at < 0 || !axes.insert(at).second) return bad(node, "axes outside the output, or twice");
  }
  Shape shape;
  std::size_t next = 0;
  for (std::size_t i = 0; i < rank; ++i) {
    shape.push_back(axes.contains(static_cast<std::int64_t>(i)) ? 1 : x.dim(next++));
  }
  return reshape_to(node, x, shape);
}

Outputs transpose(const Node& node, Inputs inputs) {
  const Tensor& x = inputs[0];
  Shape order(x.rank());
  std::iota(order.rbegin(), order.rend(), 0);
  order = node.integers("perm", order);
  if (order.size() != x.rank()) return bad(node, "perm doesn't fit the input's rank");
  Shape shape;
  Shape strides;
  const Shape own = row_major_strides(x.shape());
  for (const std::int64_t axis : order) {
    if (axis < 0 || axis >= static_cast<std::int64_t>(x.rank())) return bad(node, "perm names no axis");
    shape.push_back(x.dim(static_cast<std::size_t>(axis)));
    strides.push_back(own[static_cast<std::size_t>(axis)]);
  }
  return one(gathered(x, shape, strides, 0));
}

Outputs expand(const Node& node, Inputs inputs) {
  auto shape = broadcast_shapes(inputs[0].shape(), inputs[1].to_integers());
  if (!shape.has_value()) return bad(node, shape.error().message);
  return one(gathered(inputs[0], *shape, broadcast_strides(inputs[0].shape(), *shape), 0));
}

Outputs slice(const Node& node, Inputs inputs) {
  const Tensor& x = inputs[0];
  const auto list = [&](std::size_t i) {
    return given(inputs, i) ? inputs[i].to_integers() : std::vector<std::int64_t>{};
  };
  KERF_ASSIGN(const SliceRange range, slice_ranges(node, x.shape(), list(1), list(2), list(3), list(4)));
  Shape strides = row_major_strides(x.shape());
  std::int64_t offset = 0;
  for (std::size_t i = 0; i < strides.size(); ++i) {
    offset += range.start[i] * strides[i];
    strides[i] *= range.step[i];
  }
  return one(gathered(x, range.count, strides, offset));
}

Outputs concat(const Node& node, Inputs inputs) {
  if (node.inputs.empty()) return bad(node, "no input");
  Shape shape = inputs[0].shape();
  const std::int64_t axis = normalized_axis(node.integer("axis", 0), shape.size());
  if (axis < 0) return bad(node, "axis outside the input");
  const auto at = static_cast<std::size_t>(axis);
  shape[at] = 0;
  for (std::size_t i = 0; i < node.inputs.size(); ++i) {
    Shape expected = inputs[i].shape();
    if (expected.size() != shape.size() || inputs[i].dtype() != inputs[0].dtype()) return bad(node, "inputs don't fit each other");
    shape[at] += expected[at];
    expected[at] = shape[at];
    if (expected != shape) return bad(node, "inputs differ besides the axis");
  }
  Tensor out(inputs[0].dtype(), shape);
  const std::size_t size = graph::element_size(out.dtype());
  std::size_t outer = 1;
  for (std::size_t i = 0; i < at; ++i) outer *= static_cast<std::size_t>(shape[i]);
  std::byte* to = out.mutable_raw();
  for (std::size_t o = 0; o < outer; ++o) {
    for (std::size_t i = 0; i < node.inputs.size(); ++i) {
      const std::size_t run = static_cast<std::size_t>(inputs[i].elements()) / outer * size;
      if (run > 0) std::memcpy(to, inputs[i].raw() + o * run, run);
      to += run;
    }
  }
  return one(std::move(out));
}

Outputs split(const Node& node, Inputs inputs) {
  const Tensor& x = inputs[0];
  const std::int64_t axis = normalized_axis(node.integer("axis", 0), x.rank());
  if (axis < 0) return bad(node, "axis outside the input");
  const auto at = static_cast<std::size_t>(axis);
  const auto parts = static_cast<std::int64_t>(node.outputs.size());
  std::vector<std::int64_t> sizes;
  if (given(inputs, 1)) sizes = inputs[1].to_integers();
  else {
    const std::int64_t each = (x.dim(at) + parts - 1) / parts;
    for (std::int64_t i = 0; i < parts; ++i) sizes.push_back(std::min(each, x.dim(at) - i * each));
  }
  if (static_cast<std::int64_t>(sizes.size()) != parts ||
      std::accumulate(sizes.begin(), sizes.end(), std::int64_t{0}) != x.dim(at) ||
      *std::min_element(sizes.begin(), sizes.end()) < 0) {
    return bad(node, "parts don't make up the axis");
  }
  std::vector<Tensor> out;
  std::int64_t start = 0;
  const Shape strides = row_major_strides(x.shape());
  for (const std::int64_t extent : sizes) {
    Shape shape = x.shape();
    shape[at] = extent;
    out.push_back(gathered(x, shape, strides, start * strides[at]));
    start += extent;
  }
  return out;
}

Outputs tile(const Node& node, Inputs inputs) {
  const Tensor& x = inputs[0];
  const std::vector<std::int64_t> repeats = inputs[1].to_integers();
  if (repeats.size() != x.rank()) return bad(node, "repeats don't fit the input's rank");
  Shape doubled;
  Shape strides;
  Shape shape;
  const Shape own = row_major_strides(x.shape());
  for (std::size_t i = 0; i < x.rank(); ++i) {
    doubled.insert(doubled.end(), {repeats[i], x.dim(i)});
    strides.insert(strides.end(), {0, own[i]});
    shape.push_back(repeats[i] * x.dim(i));
  }
  return one(gathered(x, doubled, strides, 0).reshaped(shape));
}

Outputs pad(const Node& node, Inputs inputs) {
  const Tensor& x = inputs[0];
  const std::string mode = node.text("mode", "constant");
  const std::vector<std::int64_t> pads = inputs[1].to_integers();
  std::vector<std::int64_t> axes;
  if (given(inputs, 3)) axes = inputs[3].to_integers();
  else for (std::size_t i = 0; i < x.rank(); ++i) axes.push_back(static_cast<std::int64_t>(i));
  if (pads.size() != 2 * axes.size()) return bad(node, "pads don't fit the axes");
  Shape begin(x.rank(), 0);
  Shape shape = x.shape();
  for (std::size_t i = 0; i < axes.size(); ++i) {
    const std::int64_t axis = normalized_axis(axes[i], x.rank());
    if (axis < 0) return bad(node, "axis outside the input");
    begin[static_cast<std::size_t>(axis)] = pads[i];
    shape[static_cast<std::size_t>(axis)] += pads[i] + pads[i + axes.size()];
  }
  for (const std::int64_t extent : shape) {
    if (extent < 0) return bad(node, "negative pads leave nothing");
  }
  const std::size_t size = graph::element_size(x.dtype());
  std::vector<std::byte> fill(size);
  if (given(inputs, 2)) std::memcpy(fill.data(), inputs[2].raw(), size);
  Tensor out(x.dtype(), shape);
  std::byte* to = out.mutable_raw();
  const Shape strides = row_major_strides(x.shape());
  Shape index(shape.size(), 0);
  for (std::int64_t i = 0; i < out.elements(); ++i) {
    std::int64_t rest = i;
    std::int64_t from = 0;
    bool inside = true;
    for (std::size_t k = shape.size(); k-- > 0;) {
      std::int64_t at = rest % shape[k] - begin[k];
      rest /= shape[k];
      const std::int64_t extent = x.dim(k);
      if (mode == "edge") at = std::clamp<std::int64_t>(at, 0, extent - 1);
      if (mode == "wrap") at = (at % extent + extent) % extent;
      if (mode == "reflect" && extent > 1) {
        const std::int64_t period = 2 * (extent - 1);
        at = (at % period + period) % period;
        at = std::min(at, period - at);
      } else if (mode == "reflect") {
        at = 0;
      }
      inside = inside && at >= 0 && at < extent;
      from += at * strides[k];
    }
    std::memcpy(to, inside ? x.raw() + static_cast<std::size_t>(from) * size : fill.data(), size);
    to += size;
  }
  return one(std::move(out));
}

Outputs depth_to_space(const Node& node, Inputs inputs) {
  const Tensor& x = inputs[0];
  const std::int64_t b = node.integer("blocksize", 1);
  const bool to_depth = node.op == "SpaceToDepth";
  if (x.rank() != 4 || b < 1 || (to_depth ? x.dim(2) % b != 0 || x.dim(3) % b != 0 : x.dim(1) % (b * b) != 0)) {
    return bad(node, "blocksize doesn't fit the input");
  }
  const std::int64_t n = x.dim(0), c = x.dim(1), h = x.dim(2), w = x.dim(3);
  const auto permuted = [&](Shape split_shape, const Shape& order, Shape shape) {
    const Shape own = row_major_strides(split_shape);
    Shape extents, strides;
    for (const std::int64_t axis : order) {
      extents.push_back(split_shape[static_cast<std::size_t>(axis)]);
      strides.push_back(own[static_cast<std::size_t>(axis)]);
    }
    return one(gathered(x, extents, strides, 0).reshaped(std::move(shape)));
  };
  if (to_depth) {
    return permuted({n, c, h / b, b, w / b, b}, {0, 3, 5, 1, 2, 4}, {n, c * b * b, h / b, w / b});
  }
  if (node.text("mode", "DCR") == "DCR") {
    return permuted({n, b, b, c / (b * b), h, w}, {0, 3, 4, 1, 5, 2}, {n, c / (b * b), h * b, w * b});
  }
  return permuted({n, c / (b * b), b, b, h, w}, {0, 1, 4, 2, 5, 3}, {n, c / (b * b), h * b, w * b});
}

Outputs shape_op(const Node& node, Inputs inputs) {
  const Shape& shape = inputs[0].shape();
  const auto rank = static_cast<std::int64_t>(shape.size());
  const auto clamp = [&](std::int64_t v) { return std::clamp<std::int64_t>(v < 0 ? v + rank : v, 0, rank); };
  const std::int64_t first = clamp(node.integer("start", 0));
  const std::int64_t last = std::max(first, clamp(node.integer("end", rank)));
  const Shape part(shape.begin() + first, shape.begin() + last);
  return one(Tensor::s64({last - first}, part));
}

Outputs size_op(const Node&, Inputs inputs) { return one(Tensor::s64({}, {inputs[0].elements()})); }

Outputs constant(const Node& node, Inputs) {
  const auto has = [&](const char* name) { return node.attributes.contains(name); };
  if (has("value")) {
    if (const auto* tensor = std::get_if<Tensor>(&node.attributes.at("value"))) return one(*tensor);
  }
  if (has("value_float")) return one(Tensor::scalar(node.real("value_float", 0)));
  if (has("value_int")) return one(Tensor::s64({}, {node.integer("value_int", 0)}));
  if (has("value_ints")) {
    const auto values = node.integers("value_ints");
    return one(Tensor::s64({static_cast<std::int64_t>(values.size())}, values));
  }
  if (has("value_floats")) {
    if (const auto* values = std::get_if<std::vector<float>>(&node.attributes.at("value_floats"))) {
      return one(Tensor::f32({static_cast<std::int64_t>(values->size())}, *values));
    }
  }
  return bad(node, "no value of a supported kind");
}

Outputs constant_of_shape(const Node& node, Inputs inputs) {
  const Shape shape = inputs[0].elements() == 0 ? Shape{} : inputs[0].to_integers();
  Tensor value = Tensor::scalar(0.0F);
  if (const auto found = node.attributes.find("value"); found != node.attributes.end()) {
    if (const auto* tensor = std::get_if<Tensor>(&found->second)) value = *tensor;
  }
  if (!graph::element_count(shape)) return bad(node, "shape " + graph::to_string(shape));
  return one(gathered(value, shape, Shape(shape.size(), 0), 0));
}

Outputs range(const Node& node, Inputs inputs) {
  std::vector<Tensor> out;
  bool fits = true;
  dispatch(inputs[0].dtype(), [&]<class T>(T) {
    const auto start = static_cast<double>(inputs[0].as<T>()[0]);
    const auto limit = static_cast<double>(inputs[1].as<T>()[0]);
    const auto delta = static_cast<double>(inputs[2].as<T>()[0]);
    const double count = delta == 0 ? -1 : std::max(0.0, std::ceil((limit - start) / delta));
    if (count < 0 || count > 1e8) {
      fits = false;
      return;
    }
    Tensor tensor(inputs[0].dtype(), {static_cast<std::int64_t>(count)});
    const auto to = tensor.mutable_as<T>();
    for (std::size_t i = 0; i < to.size(); ++i) {
      to[i] = static_cast<T>(start + static_cast<double>(i) * delta);
    }
    out.push_back(std::move(tensor));
  });
  if (!fits || out.empty()) return bad(node, "a range of no sensible length");
  return out;
}

Outputs identity(const Node&, Inputs inputs) { return one(inputs[0]); }

}  // namespace

void add_shaping(Registry& registry) {
  registry["Reshape"] = reshape;
  registry["Flatten"] = flatten;
  registry["Squeeze"] = squeeze;
  registry["Unsqueeze"] = unsqueeze;
  registry["Transpose"] = transpose;
  registry["Expand"] = expand;
  registry["Slice"] = slice;
  registry["Concat"] = concat;
  registry["Split"] = split;
  registry["Tile"] = tile;
  registry["Pad"] = pad;
  registry["DepthToSpace"] = depth_to_space;
  registry["SpaceToDepth"] = depth_to_space;
  registry["Shape"] = shape_op;
  registry["Size"] = size_op;
  registry["Constant"] = constant;
  registry["ConstantOfShape"] = constant_of_shape;
  registry["Range"] = range;
  registry["Identity"] = identity;
  registry["Dropout"] = identity;
}

}  // namespace kerf::engine::reference
