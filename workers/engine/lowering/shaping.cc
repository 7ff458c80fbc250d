#include "workers/engine/lowering/shaping.h"

#include <algorithm>
#include <cstring>

#include "workers/engine/geometry.h"
#include "workers/engine/kernels/copy.h"

namespace kerf::engine {

using graph::DType;
using graph::Node;
using graph::Shape;
using graph::Tensor;

namespace {

/// A copy of `counts` elements of a rep, walked in the memory order of `to_layout`, into dense
/// memory of `to_dims` from the element `to_start` on.
StridedCopy window_copy(const Shape& counts, const Shape& from_strides, std::int64_t from_offset, const Shape& to_dims,
                        Layout to_layout, const Shape& to_start, std::size_t element_size) {
  StridedCopy copy;
  const Shape to = layout_strides(to_dims, to_layout);
  copy.from_offset = from_offset;
  for (std::size_t axis = 0; axis < to_dims.size(); ++axis) copy.to_offset += to_start[axis] * to[axis];
  for (const std::size_t axis : memory_order(counts.size(), to_layout)) {
    copy.dims.push_back(counts[axis]);
    copy.from_strides.push_back(from_strides[axis]);
    copy.to_strides.push_back(to[axis]);
  }
  copy.element_size = element_size;
  return copy;
}

bool small_rank(const Shape& shape) { return shape.size() <= 8; }

/// The first form of the value, unfolded.
Result<Rep> dense(Values& values, const std::string& value) {
  KERF_ASSIGN(Rep rep, values.first(value));
  if (!rep.folded.empty()) rep = values.in_layout(value, rep, Layout::kPlain);
  return rep;
}

Result<bool> reshape(Values& values, const Node& node) {
  const Shape shape = values.info(node.outputs[0]).shape;
  KERF_ASSIGN(Rep rep, values.first(node.inputs[0]));
  const Shape& from = values.dims(rep);
  if (graph::element_count(from) != graph::element_count(shape)) return false;
  Rep out = rep;
  if (rep.folded.empty() && rep.layout == Layout::kChannelsLast && from.size() > 2 && shape.size() > 2 && shape[0] == from[0] && shape[1] == from[1]) {
    // Only pixels are counted anew: they lie one after the other either way.
    out.slot = values.alias(rep.slot, shape, Layout::kChannelsLast);
    values.set(node.outputs[0], out);
    return true;
  }
  const bool to_rows = shape.size() == 2 && from.size() > 2 && shape[0] == from[0];
  if (rep.folded.empty() && rep.layout == Layout::kChannelsLast && !layouts_coincide(from)) {
    if (to_rows) {
      out.folded = from;
    } else {
      out = values.in_layout(node.inputs[0], rep, Layout::kPlain);
    }
  } else if (!rep.folded.empty()) {
    if (shape == rep.folded) {
      // The way back: the memory is what it was.
      out.folded.clear();
      out.layout = Layout::kChannelsLast;
      out.slot = values.alias(rep.slot, shape, out.layout);
      values.set(node.outputs[0], out);
      return true;
    }
    if (shape != from) out = values.in_layout(node.inputs[0], rep, Layout::kPlain);
  }
  out.layout = Layout::kPlain;
  out.slot = values.alias(out.slot, shape, Layout::kPlain);
  values.set(node.outputs[0], out);
  return true;
}

Result<bool> transpose(Values& values, const Node& node) {
  KERF_ASSIGN(const Rep rep, dense(values, node.inputs[0]));
  const Shape from = values.dims(rep);
  if (!small_rank(from)) return false;
  std::vector<std::int64_t> order = node.integers("perm");
  if (order.empty()) {
    for (std::size_t i = from.size(); i-- > 0;) order.push_back(static_cast<std::int64_t>(i));
  }
  const Shape own = layout_strides(from, rep.layout);
  Shape shape;
  Shape strides;
  for (const std::int64_t axis : order) {
    shape.push_back(from[static_cast<std::size_t>(axis)]);
    strides.push_back(own[static_cast<std::size_t>(axis)]);
  }
  Rep out = rep;
  for (const Layout layout : {Layout::kPlain, Layout::kChannelsLast}) {
    const Shape target = layout_strides(shape, layout);
    bool same = true;
    for (std::size_t i = 0; i < shape.size(); ++i) same = same && (shape[i] == 1 || strides[i] == target[i]);
    if (!same) continue;
    out.layout = layout;
    out.slot = values.alias(rep.slot, shape, layout);
    values.set(node.outputs[0], out);
    return true;
  }
  out.layout = Layout::kPlain;
  out.slot = values.new_slot(rep.numeric.dtype, shape, out.layout);
  values.emit(make_copy({{rep.slot, window_copy(shape, strides, 0, shape, out.layout, Shape(shape.size(), 0), graph::element_size(rep.numeric.dtype))}},
                        out.slot, *graph::element_count(shape), {}, values.threads()),
              node.name, node.op, executes_as(rep.numeric));
  values.set(node.outputs[0], out);
  return true;
}

std::optional<std::vector<std::int64_t>> constant_list(const Values& values, const Node& node, std::size_t i) {
  if (!node.has_input(i)) return std::vector<std::int64_t>{};
  const Tensor* tensor = values.graph().constant(node.inputs[i]);
  if (tensor == nullptr || tensor->dtype() == DType::kF32) return std::nullopt;
  return tensor->to_integers();
}

/// One output that is a strided view of the input, copied.
void emit_view(Values& values, const Node& node, const Rep& rep, const std::string& output, const Shape& counts,
               const Shape& strides, std::int64_t offset, Layout layout) {
  Rep out = rep;
  out.layout = layout;
  out.slot = values.new_slot(rep.numeric.dtype, counts, layout);
  values.emit(make_copy({{rep.slot, window_copy(counts, strides, offset, counts, layout, Shape(counts.size(), 0), graph::element_size(rep.numeric.dtype))}},
                        out.slot, *graph::element_count(counts), {}, values.threads()),
              node.name, node.op, executes_as(rep.numeric));
  values.set(output, out);
}

Result<bool> slice(Values& values, const Node& node) {
  KERF_ASSIGN(const Rep rep, dense(values, node.inputs[0]));
  const Shape from = values.dims(rep);
  const auto starts = constant_list(values, node, 1);
  const auto ends = constant_list(values, node, 2);
  const auto axes = constant_list(values, node, 3);
  const auto steps = constant_list(values, node, 4);
  if (!starts || !ends || !axes || !steps || !small_rank(from)) return false;
  KERF_ASSIGN(const SliceRange range, slice_ranges(node, from, *starts, *ends, *axes, *steps));
  Shape strides = layout_strides(from, rep.layout);
  std::int64_t offset = 0;
  for (std::size_t i = 0; i < strides.size(); ++i) {
    offset += range.start[i] * strides[i];
    strides[i] *= range.step[i];
  }
  if (graph::element_count(range.count) == 0) return false;
  emit_view(values, node, rep, node.outputs[0], range.count, strides, offset, rep.layout);
  return true;
}

Result<bool> split(Values& values, const Node& node) {
  KERF_ASSIGN(const Rep rep, dense(values, node.inputs[0]));
  const Shape from = values.dims(rep);
  const std::int64_t axis = normalized_axis(node.integer("axis", 0), from.size());
  if (axis < 0 || !small_rank(from)) return false;
  const Shape strides = layout_strides(from, rep.layout);
  std::int64_t start = 0;
  for (const std::string& output : node.outputs) {
    const Shape counts = values.info(output).shape;
    if (graph::element_count(counts).value_or(0) == 0) return false;
    emit_view(values, node, rep, output, counts, strides, start * strides[static_cast<std::size_t>(axis)], rep.layout);
    start += counts[static_cast<std::size_t>(axis)];
  }
  return true;
}

Result<bool> expand(Values& values, const Node& node) {
  KERF_ASSIGN(Rep rep, dense(values, node.inputs[0]));
  rep = values.in_layout(node.inputs[0], rep, Layout::kPlain);
  const Shape shape = values.info(node.outputs[0]).shape;
  if (!small_rank(shape) || graph::element_count(shape) == 0) return false;
  emit_view(values, node, rep, node.outputs[0], shape, broadcast_strides(values.dims(rep), shape), 0, Layout::kPlain);
  return true;
}

Result<bool> pad(Values& values, const Node& node) {
  if (node.text("mode", "constant") != "constant") return false;
  const auto pads = constant_list(values, node, 1);
  auto axes = constant_list(values, node, 3);
  if (!pads || !axes) return false;
  KERF_ASSIGN(Rep rep, dense(values, node.inputs[0]));
  const Shape from = values.dims(rep);
  if (!small_rank(from) || graph::element_count(from) == 0) return false;
  if (axes->empty()) {
    for (std::size_t i = 0; i < from.size(); ++i) axes->push_back(static_cast<std::int64_t>(i));
  }
  if (pads->size() != 2 * axes->size()) return false;
  float fill_value = 0.0F;
  if (node.has_input(2)) {
    const Tensor* fill = values.graph().constant(node.inputs[2]);
    if (fill == nullptr || fill->elements() != 1) return false;
    fill_value = fill->to_floats()[0];
  }
  const bool bytes = rep.numeric.dtype == DType::kU8 || rep.numeric.dtype == DType::kS8;
  if (bytes && fill_value != 0.0F) return false;
  if (!bytes && rep.numeric.dtype != DType::kF32 && (rep.numeric.dtype != DType::kBF16 || fill_value != 0.0F)) return false;
  std::vector<std::byte> fill(graph::element_size(rep.numeric.dtype), std::byte{0});
  if (bytes) fill[0] = static_cast<std::byte>(rep.numeric.zero);
  if (rep.numeric.dtype == DType::kF32) std::memcpy(fill.data(), &fill_value, sizeof fill_value);
  Shape shape = from;
  Shape counts = from;
  Shape strides = layout_strides(from, rep.layout);
  Shape start(from.size(), 0);
  std::int64_t offset = 0;
  for (std::size_t i = 0; i < axes->size(); ++i) {
    const std::int64_t axis = normalized_axis((*axes)[i], from.size());
    if (axis < 0) return false;
    const auto at = static_cast<std::size_t>(axis);
    const std::int64_t before = (*pads)[i];
    const std::int64_t after = (*pads)[i + axes->size()];
    shape[at] += before + after;
    // Negative pads crop.
    offset += std::max<std::int64_t>(0, -before) * strides[at];
    start[at] = std::max<std::int64_t>(0, before);
    counts[at] += std::min<std::int64_t>(0, before) + std::min<std::int64_t>(0, after);
    if (counts[at] <= 0) return false;
  }
  Rep out = rep;
  out.slot = values.new_slot(rep.numeric.dtype, shape, rep.layout);
  values.emit(make_copy({{rep.slot, window_copy(counts, strides, offset, shape, rep.layout, start, fill.size())}},
                        out.slot, *graph::element_count(shape), shape == counts ? std::vector<std::byte>{} : fill, values.threads()),
              node.name, node.op, executes_as(rep.numeric));
  values.set(node.outputs[0], out);
  return true;
}

Result<bool> concat(Values& values, const Node& node) {
  const Shape shape = values.info(node.outputs[0]).shape;
  const std::int64_t axis = normalized_axis(node.integer("axis", 0), shape.size());
  if (axis < 0 || !small_rank(shape) || graph::element_count(shape) == 0) return false;
  std::vector<Rep> reps;
  bool same = true;
  Layout layout = Layout::kPlain;
  for (const std::string& input : node.inputs) {
    KERF_ASSIGN(const Rep rep, dense(values, input));
    same = same && (reps.empty() || rep.numeric == reps[0].numeric);
    if (rep.layout == Layout::kChannelsLast && !layouts_coincide(values.dims(rep))) layout = Layout::kChannelsLast;
    reps.push_back(rep);
  }
  if (!same && values.info(node.outputs[0]).dtype != DType::kF32) return false;
  std::vector<CopySource> sources;
  Rep out;
  out.layout = layout;
  out.numeric = same ? reps[0].numeric : Numeric{};
  out.slot = values.new_slot(out.numeric.dtype, shape, layout);
  Shape start(shape.size(), 0);
  for (std::size_t i = 0; i < reps.size(); ++i) {
    Rep rep = reps[i];
    if (!same) {
      KERF_ASSIGN(rep, values.as(node.inputs[i], DType::kF32, std::nullopt));
      if (!rep.folded.empty()) rep = values.in_layout(node.inputs[i], rep, Layout::kPlain);
    }
    const Shape& counts = values.dims(rep);
    sources.push_back({rep.slot, window_copy(counts, layout_strides(counts, rep.layout), 0, shape, layout, start, graph::element_size(out.numeric.dtype))});
    start[static_cast<std::size_t>(axis)] += counts[static_cast<std::size_t>(axis)];
  }
  values.emit(make_copy(std::move(sources), out.slot, *graph::element_count(shape), {}, values.threads()), node.name,
              node.op, executes_as(out.numeric));
  values.set(node.outputs[0], out);
  return true;
}

/// Gather by a few constant indices.
Result<bool> gather(Values& values, const Node& node) {
  const auto indices = constant_list(values, node, 1);
  if (!node.has_input(1) || !indices || indices->empty() || indices->size() > 64) return false;
  KERF_ASSIGN(Rep rep, dense(values, node.inputs[0]));
  rep = values.in_layout(node.inputs[0], rep, Layout::kPlain);
  const Shape from = values.dims(rep);
  const Shape shape = values.info(node.outputs[0]).shape;
  const std::int64_t axis = normalized_axis(node.integer("axis", 0), from.size());
  if (axis < 0 || !small_rank(from) || graph::element_count(shape).value_or(0) == 0) return false;
  const auto at = static_cast<std::size_t>(axis);
  // The output seen with its index dimensions as one.
  Shape flat = from;
  flat[at] = static_cast<std::int64_t>(indices->size());
  Shape counts = from;
  counts[at] = 1;
  const Shape strides = layout_strides(from, Layout::kPlain);
  std::vector<CopySource> sources;
  for (std::size_t i = 0; i < indices->size(); ++i) {
    const std::int64_t index = (*indices)[i] < 0 ? (*indices)[i] + from[at] : (*indices)[i];
    if (index < 0 || index >= from[at]) return invalid_argument("node " + node.label() + ": index outside the axis");
    Shape start(from.size(), 0);
    start[at] = static_cast<std::int64_t>(i);
    sources.push_back({rep.slot, window_copy(counts, strides, index * strides[at], flat, Layout::kPlain, start, graph::element_size(rep.numeric.dtype))});
  }
  Rep out = rep;
  out.slot = values.new_slot(rep.numeric.dtype, shape, Layout::kPlain);
  values.emit(make_copy(std::move(sources), out.slot, *graph::element_count(shape), {}, values.threads()), node.name,
              node.op, executes_as(rep.numeric));
  values.set(node.outputs[0], out);
  return true;
}

}  // namespace

Result<bool> lower_shaping(Values& values, const Node& node) {
  const std::string& op = node.op;
  if (node.inputs.empty() || node.outputs.empty()) return false;
  if (op == "Reshape" || op == "Flatten" || op == "Squeeze" || op == "Unsqueeze" || op == "Identity" ||
      op == "Dropout" || op == "Cast") {
    if (op == "Cast" && values.info(node.inputs[0]).dtype != values.info(node.outputs[0]).dtype) return false;
    for (std::size_t i = 1; i < node.outputs.size(); ++i) {
      if (!node.outputs[i].empty()) return false;
    }
    return reshape(values, node);
  }
  if (op == "Transpose") return transpose(values, node);
  if (op == "Slice") return slice(values, node);
  if (op == "Split") return split(values, node);
  if (op == "Expand") return expand(values, node);
  if (op == "Pad") return pad(values, node);
  if (op == "Concat") return concat(values, node);
  if (op == "Gather") return gather(values, node);
  return false;
}

}  // namespace kerf::engine
