// Resize, one axis after the other, in the layout and, of nearest, in the number format that the
// input has.
#include "workers/engine/kernels/resize.h"

#include <algorithm>

#include "workers/engine/lowering/light.h"
#include "workers/engine/reference/resize.h"

namespace kerf::engine {

using graph::DType;
using graph::Node;
using graph::Shape;
using graph::Tensor;

namespace {

/// The axis' taps as arrays; false where an output has none.
bool flatten(const reference::ResizedAxis& axis, bool copies, AxisResize& out) {
  for (const auto& taps : axis.taps) {
    if (taps.empty()) return false;
    // Taps of no weight go: linear ones have three.
    const auto used = std::count_if(taps.begin(), taps.end(), [](const auto& tap) { return tap.second != 0; });
    out.taps = std::max<std::int64_t>(out.taps, used);
  }
  for (const auto& taps : axis.taps) {
    std::int64_t placed = 0;
    for (const auto& [index, weight] : taps) {
      if (weight == 0) continue;
      out.indices.push_back(static_cast<std::int32_t>(index));
      if (!copies) out.weights.push_back(static_cast<float>(weight));
      ++placed;
    }
    for (; placed < out.taps; ++placed) {
      out.indices.push_back(0);
      if (!copies) out.weights.push_back(0.0F);
    }
  }
  return true;
}

}  // namespace

Result<bool> lower_resize(Values& values, const Node& node) {
  if (node.op != "Resize") return false;
  const std::string mode = node.text("mode", "nearest");
  const bool copies = mode == "nearest";
  std::vector<Tensor> inputs(4);
  for (std::size_t i = 1; i < 4; ++i) {
    if (!node.has_input(i)) continue;
    const Tensor* tensor = values.graph().constant(node.inputs[i]);
    if (tensor == nullptr) return false;
    // An empty list says as much as none.
    if (tensor->elements() > 0) inputs[i] = *tensor;
  }
  const graph::ValueInfo info = values.info(node.inputs[0]);
  if (graph::element_count(info.shape).value_or(0) == 0 || (!copies && info.dtype != DType::kF32)) return false;
  KERF_ASSIGN(const auto axes, reference::resized_axes(node, info.shape, inputs));
  if (axes.empty()) return false;
  Rep x;
  if (copies) {
    KERF_ASSIGN(x, values.first(node.inputs[0]));
    if (!x.folded.empty()) x = values.in_layout(node.inputs[0], x, Layout::kPlain);
  } else {
    KERF_ASSIGN(x, float_input(values, node.inputs[0]));
  }
  const std::vector<std::size_t> order = memory_order(info.shape.size(), x.layout);
  Shape now = info.shape;
  std::vector<AxisResize> steps;
  std::int64_t largest = 0;
  for (const auto& axis : axes) {
    AxisResize step;
    if (!flatten(axis, copies, step)) return false;
    step.in = axis.in;
    step.out = axis.out;
    step.threads = values.threads();
    bool before = true;
    for (const std::size_t d : order) {
      if (d == axis.axis) before = false;
      else (before ? step.outer : step.inner) *= now[d];
    }
    now[axis.axis] = axis.out;
    largest = std::max(largest, step.outer * step.out * step.inner);
    steps.push_back(std::move(step));
  }
  if (now != values.info(node.outputs[0]).shape) return false;
  Rep out = x;
  out.slot = values.new_slot(x.numeric.dtype, now, x.layout);
  const std::size_t size = graph::element_size(x.numeric.dtype);
  const std::int64_t scratch = steps.size() > 1 ? (steps.size() > 2 ? 2 : 1) * largest * static_cast<std::int64_t>(size) : 0;
  values.emit(make_call("kerf:resize", {x.slot}, {out.slot},
                        [steps = std::move(steps), from = x.slot, to = out.slot, size, largest, copies](Pointers p, std::byte* work) {
                          const std::byte* source = p[from];
                          for (std::size_t i = 0; i < steps.size(); ++i) {
                            std::byte* target = i + 1 == steps.size() ? p[to] : work + (i % 2) * static_cast<std::size_t>(largest) * size;
                            if (copies) resize_axis(steps[i], source, target, size);
                            else resize_axis(steps[i], reinterpret_cast<const float*>(source), reinterpret_cast<float*>(target));
                            source = target;
                          }
                        },
                        scratch),
              node.name, node.op, executes_as(out.numeric));
  values.set(node.outputs[0], out);
  return true;
}

}  // namespace kerf::engine
