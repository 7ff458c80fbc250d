// Tile, DepthToSpace and SpaceToDepth as strided copies; Pad that repeats what is there.
#include <algorithm>

#include "workers/engine/geometry.h"
#include "workers/engine/kernels/copy.h"
#include "workers/engine/kernels/resize.h"
#include "workers/engine/lowering/light.h"

namespace kerf::engine {

using graph::Node;
using graph::Shape;

namespace {

/// The first form of the value, unfolded: these ops move any number format.
Result<Rep> any_form(Values& values, const std::string& value) {
  KERF_ASSIGN(Rep rep, values.first(value));
  if (!rep.folded.empty()) rep = values.in_layout(value, rep, Layout::kPlain);
  return rep;
}

void emit_copy(Values& values, const Node& node, const Rep& from, StridedCopy copy, const Shape& shape, Layout layout) {
  Rep out = from;
  out.layout = layout;
  out.slot = values.new_slot(from.numeric.dtype, shape, layout);
  copy.element_size = graph::element_size(from.numeric.dtype);
  values.emit(make_copy({{from.slot, std::move(copy)}}, out.slot, *graph::element_count(shape), {}, values.threads()), node.name, node.op,
              executes_as(from.numeric));
  values.set(node.outputs[0], out);
}

Result<bool> tile(Values& values, const Node& node) {
  KERF_ASSIGN(Rep x, any_form(values, node.inputs[0]));
  x = values.in_layout(node.inputs[0], x, Layout::kPlain);
  const Shape from = values.dims(x);
  const Shape shape = values.info(node.outputs[0]).shape;
  if (shape.size() != from.size() || shape.size() > 8) return false;
  const Shape own = row_major_strides(from);
  const Shape target = row_major_strides(shape);
  StridedCopy copy;
  for (std::size_t d = 0; d < shape.size(); ++d) {
    if (shape[d] % from[d] != 0) return false;
    copy.dims.insert(copy.dims.end(), {shape[d] / from[d], from[d]});
    copy.from_strides.insert(copy.from_strides.end(), {0, own[d]});
    copy.to_strides.insert(copy.to_strides.end(), {from[d] * target[d], target[d]});
  }
  emit_copy(values, node, x, std::move(copy), shape, Layout::kPlain);
  return true;
}

/// Both directions as one: blocks of pixels on the wide side, channels on the deep one.
Result<bool> depth_and_space(Values& values, const Node& node) {
  KERF_ASSIGN(const Rep x, any_form(values, node.inputs[0]));
  const Shape from = values.dims(x);
  const Shape shape = values.info(node.outputs[0]).shape;
  const std::int64_t b = node.integer("blocksize", 1);
  const bool to_depth = node.op == "SpaceToDepth";
  if (from.size() != 4 || b < 1) return false;
  const Shape& deep = to_depth ? shape : from;
  const Shape& wide = to_depth ? from : shape;
  if (deep[1] != wide[1] * b * b || wide[2] != deep[2] * b || wide[3] != deep[3] * b) return false;
  const Shape deep_strides = layout_strides(deep, x.layout);
  const Shape wide_strides = layout_strides(wide, x.layout);
  const std::int64_t channels = wide[1];
  // Sample, channel, row of blocks, row in the block, column of blocks, column in the block.
  const Shape dims{deep[0], channels, deep[2], b, deep[3], b};
  const bool columns_first = !to_depth && node.text("mode", "DCR") != "DCR";
  const std::int64_t c = deep_strides[1];
  const Shape in_deep = columns_first ? Shape{deep_strides[0], b * b * c, deep_strides[2], b * c, deep_strides[3], c}
                                      : Shape{deep_strides[0], c, deep_strides[2], b * channels * c, deep_strides[3], channels * c};
  const Shape in_wide{wide_strides[0], wide_strides[1], b * wide_strides[2], wide_strides[2], b * wide_strides[3], wide_strides[3]};
  const std::vector<std::size_t> plain_order{0, 1, 2, 3, 4, 5};
  const std::vector<std::size_t> last_order{0, 2, 3, 4, 5, 1};
  StridedCopy copy;
  for (const std::size_t d : x.layout == Layout::kPlain ? plain_order : last_order) {
    copy.dims.push_back(dims[d]);
    copy.from_strides.push_back(to_depth ? in_wide[d] : in_deep[d]);
    copy.to_strides.push_back(to_depth ? in_deep[d] : in_wide[d]);
  }
  emit_copy(values, node, x, std::move(copy), shape, x.layout);
  return true;
}

/// Where in the input an element of the padded axis comes from.
std::int64_t source_of(std::int64_t at, std::int64_t extent, const std::string& mode) {
  if (mode == "edge") return std::clamp<std::int64_t>(at, 0, extent - 1);
  if (mode == "wrap") return (at % extent + extent) % extent;
  if (extent == 1) return 0;
  const std::int64_t period = 2 * (extent - 1);
  at = (at % period + period) % period;
  return std::min(at, period - at);
}

Result<bool> pad(Values& values, const Node& node) {
  const std::string mode = node.text("mode", "constant");
  const auto pads = constant_integers(values, node, 1);
  if ((mode != "edge" && mode != "reflect" && mode != "wrap") || !pads) return false;
  KERF_ASSIGN(const Rep x, any_form(values, node.inputs[0]));
  Shape now = values.dims(x);
  std::vector<std::int64_t> axes;
  if (node.has_input(3)) {
    const auto list = constant_integers(values, node, 3);
    if (!list) return false;
    axes = *list;
  } else {
    for (std::size_t d = 0; d < now.size(); ++d) axes.push_back(static_cast<std::int64_t>(d));
  }
  if (pads->size() != 2 * axes.size()) return false;
  std::vector<AxisResize> steps;
  std::int64_t largest = 0;
  const std::vector<std::size_t> order = memory_order(now.size(), x.layout);
  for (std::size_t i = 0; i < axes.size(); ++i) {
    const std::int64_t axis = normalized_axis(axes[i], now.size());
    const std::int64_t before = (*pads)[i];
    const std::int64_t after = (*pads)[i + axes.size()];
    if (axis < 0) return false;
    if (before == 0 && after == 0) continue;
    AxisResize step;
    const auto along = static_cast<std::size_t>(axis);
    step.in = now[along];
    step.out = step.in + before + after;
    step.threads = values.threads();
    if (step.out < 1) return false;
    bool outside = true;
    for (const std::size_t d : order) {
      if (d == along) outside = false;
      else (outside ? step.outer : step.inner) *= now[d];
    }
    for (std::int64_t k = 0; k < step.out; ++k) step.indices.push_back(static_cast<std::int32_t>(source_of(k - before, step.in, mode)));
    now[along] = step.out;
    largest = std::max(largest, step.outer * step.out * step.inner);
    steps.push_back(std::move(step));
  }
  if (steps.empty() || now != values.info(node.outputs[0]).shape) return false;
  Rep out = x;
  out.slot = values.new_slot(x.numeric.dtype, now, x.layout);
  const std::size_t size = graph::element_size(x.numeric.dtype);
  const std::int64_t scratch = steps.size() > 1 ? 2 * largest * static_cast<std::int64_t>(size) : 0;
  values.emit(make_call("kerf:pad", {x.slot}, {out.slot},
                        [steps = std::move(steps), from = x.slot, to = out.slot, size, largest](Pointers p, std::byte* work) {
                          const std::byte* source = p[from];
                          for (std::size_t i = 0; i < steps.size(); ++i) {
                            std::byte* target = i + 1 == steps.size() ? p[to] : work + (i % 2) * static_cast<std::size_t>(largest) * size;
                            resize_axis(steps[i], source, target, size);
                            source = target;
                          }
                        },
                        scratch),
              node.name, node.op, executes_as(out.numeric));
  values.set(node.outputs[0], out);
  return true;
}

}  // namespace

Result<bool> lower_rearranging(Values& values, const Node& node) {
  const bool blocks = node.op == "DepthToSpace" || node.op == "SpaceToDepth";
  if ((!blocks && node.op != "Tile" && node.op != "Pad") || graph::element_count(values.info(node.inputs[0]).shape).value_or(0) == 0) return false;
  return blocks ? depth_and_space(values, node) : node.op == "Tile" ? tile(values, node) : pad(values, node);
}

}  // namespace kerf::engine
