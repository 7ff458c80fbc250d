// LayerNormalization, RMSNormalization, InstanceNormalization, GroupNormalization and LRN.
#include "workers/engine/kernels/normalization.h"

#include "workers/engine/geometry.h"
#include "workers/engine/lowering/light.h"

namespace kerf::engine {

using graph::DType;
using graph::Node;
using graph::Shape;
using graph::Tensor;

namespace {

std::int64_t product(const Shape& shape, std::size_t first, std::size_t last) {
  std::int64_t out = 1;
  for (std::size_t i = first; i < last; ++i) out *= shape[i];
  return out;
}

/// A parameter of `elements` floats, dense; nullopt for one that would have to be spread first.
Result<std::optional<SlotId>> parameter(Values& values, const std::string& value, std::int64_t elements) {
  const graph::ValueInfo& info = values.info(value);
  if (info.dtype != DType::kF32 || graph::element_count(info.shape) != elements) return std::optional<SlotId>();
  KERF_ASSIGN(const Rep rep, plain_input(values, value));
  return std::optional(rep.slot);
}

Result<bool> rows(Values& values, const Node& node) {
  const Shape shape = values.info(node.inputs[0]).shape;
  const std::int64_t axis = normalized_axis(node.integer("axis", -1), shape.size());
  if (axis < 0 || !node.has_input(1)) return false;
  RowNormalization r;
  r.rows = product(shape, 0, static_cast<std::size_t>(axis));
  r.n = product(shape, static_cast<std::size_t>(axis), shape.size());
  r.epsilon = node.real("epsilon", 1e-5F);
  r.centred = node.op == "LayerNormalization";
  r.threads = values.threads();
  const Shape tail(shape.begin() + axis, shape.end());
  for (std::size_t i = 1; i < node.inputs.size(); ++i) {
    if (node.inputs[i].empty()) continue;
    const auto fits = broadcast_shapes(values.info(node.inputs[i]).shape, tail);
    if (!fits.has_value() || *fits != tail) return false;
  }
  KERF_ASSIGN(const auto scale, parameter(values, node.inputs[1], r.n));
  if (!scale) return false;
  SlotId bias = -1;
  if (r.centred && node.has_input(2)) {
    KERF_ASSIGN(const auto given, parameter(values, node.inputs[2], r.n));
    if (!given) return false;
    bias = *given;
  }
  KERF_ASSIGN(const Rep x, plain_input(values, node.inputs[0]));
  std::vector<SlotId> reads{x.slot, *scale};
  if (bias >= 0) reads.push_back(bias);
  std::vector<SlotId> writes;
  SlotId outputs[3] = {-1, -1, -1};
  for (std::size_t i = 0; i < node.outputs.size() && i < 3; ++i) {
    if (node.outputs[i].empty()) continue;
    outputs[i] = make_output(values, node, i);
    writes.push_back(outputs[i]);
  }
  if (outputs[0] < 0) return Error{ErrorCode::kInternal, "node " + node.label() + " has no first output"};
  auto step = make_call("kerf:normalize_rows", reads, writes,
                        [r, from = x.slot, s = *scale, bias, y = outputs[0], m = outputs[1], v = outputs[2]](Pointers p, std::byte*) {
                          normalize_rows(r, at<const float>(p, from), at<const float>(p, s), bias < 0 ? nullptr : at<const float>(p, bias),
                                         at<float>(p, y), m < 0 ? nullptr : at<float>(p, m), v < 0 ? nullptr : at<float>(p, v));
                        });
  step->in_place = x.slot;
  values.emit(std::move(step), node.name, node.op, "f32");
  return true;
}

Result<bool> groups(Values& values, const Node& node) {
  const Shape shape = values.info(node.inputs[0]).shape;
  if (shape.size() < 2 || node.inputs.size() < 3) return false;
  GroupNormalization g;
  g.batch = shape[0];
  g.channels = shape[1];
  g.groups = node.op == "GroupNormalization" ? node.integer("num_groups", 0) : g.channels;
  g.pixels = product(shape, 2, shape.size());
  g.epsilon = node.real("epsilon", 1e-5F);
  g.threads = values.threads();
  if (g.groups < 1 || g.channels % g.groups != 0) return false;
  KERF_ASSIGN(const auto scale, parameter(values, node.inputs[1], g.channels));
  KERF_ASSIGN(const auto bias, parameter(values, node.inputs[2], g.channels));
  if (!scale || !bias) return false;
  KERF_ASSIGN(const Rep x, float_input(values, node.inputs[0]));
  g.last = x.layout == Layout::kChannelsLast;
  const SlotId y = make_output(values, node, 0, x.layout);
  auto step = make_call("kerf:normalize_groups", {x.slot, *scale, *bias}, {y},
                        [g, from = x.slot, s = *scale, b = *bias, y](Pointers p, std::byte* scratch) {
                          normalize_groups(g, at<const float>(p, from), at<const float>(p, s), at<const float>(p, b), at<float>(p, y),
                                           reinterpret_cast<float*>(scratch));
                        },
                        g.scratch_elements() * g.threads * static_cast<std::int64_t>(sizeof(float)));
  step->in_place = x.slot;
  values.emit(std::move(step), node.name, node.op, "f32");
  return true;
}

Result<bool> response(Values& values, const Node& node) {
  const Shape shape = values.info(node.inputs[0]).shape;
  LocalResponse r;
  r.size = node.integer("size", 1);
  if (shape.size() < 3 || r.size < 1) return false;
  r.channels = shape[1];
  r.rows = shape[0] * product(shape, 2, shape.size());
  r.size = std::min(r.size, 2 * r.channels);
  if (r.size != node.integer("size", 1)) return false;
  r.alpha = node.real("alpha", 1e-4F);
  r.beta = node.real("beta", 0.75F);
  r.bias = node.real("bias", 1.0F);
  r.threads = values.threads();
  KERF_ASSIGN(const Rep x, values.as(node.inputs[0], DType::kF32, Layout::kChannelsLast));
  const SlotId y = make_output(values, node, 0, Layout::kChannelsLast);
  values.emit(make_call("kerf:local_response", {x.slot}, {y},
                        [r, from = x.slot, y](Pointers p, std::byte* scratch) {
                          local_response(r, at<const float>(p, from), at<float>(p, y), reinterpret_cast<float*>(scratch));
                        },
                        r.scratch_elements() * r.threads * static_cast<std::int64_t>(sizeof(float))),
              node.name, node.op, "f32");
  return true;
}

}  // namespace

Result<bool> lower_normalization(Values& values, const Node& node) {
  const bool by_rows = node.op == "LayerNormalization" || node.op == "RMSNormalization";
  const bool by_groups = node.op == "InstanceNormalization" || node.op == "GroupNormalization";
  if (!by_rows && !by_groups && node.op != "LRN") return false;
  if (values.info(node.inputs[0]).dtype != DType::kF32 || !has_full_inputs(values, node)) return false;
  return by_rows ? rows(values, node) : by_groups ? groups(values, node) : response(values, node);
}

}  // namespace kerf::engine
