#include "workers/engine/lowering/light.h"

namespace kerf::engine {

using graph::DType;
using graph::Node;
using graph::Shape;
using graph::Tensor;

Result<Rep> plain_input(Values& values, const std::string& value) {
  if (values.info(value).dtype == DType::kF32) return values.as(value, DType::kF32, Layout::kPlain);
  KERF_ASSIGN(const Rep rep, values.first(value));
  return values.in_layout(value, rep, Layout::kPlain);
}

Result<Rep> float_input(Values& values, const std::string& value) {
  KERF_ASSIGN(Rep rep, values.as(value, DType::kF32, std::nullopt));
  if (!rep.folded.empty()) rep = values.in_layout(value, rep, Layout::kPlain);
  return rep;
}

SlotId make_output(Values& values, const Node& node, std::size_t i, Layout layout) {
  const graph::ValueInfo info = values.info(node.outputs[i]);
  Rep rep;
  rep.numeric.dtype = info.dtype;
  rep.layout = layout;
  rep.slot = values.new_slot(info.dtype, info.shape, layout);
  values.set(node.outputs[i], rep);
  return rep.slot;
}

bool has_static_outputs(const Values& values, const Node& node) {
  for (const std::string& output : node.outputs) {
    if (output.empty()) continue;
    const graph::ValueInfo* info = values.graph().value(output);
    if (info == nullptr || graph::element_count(info->shape).value_or(0) == 0) return false;
  }
  return true;
}

bool has_full_inputs(const Values& values, const Node& node) {
  for (const std::string& input : node.inputs) {
    if (!input.empty() && graph::element_count(values.info(input).shape).value_or(0) == 0) return false;
  }
  return true;
}

std::optional<std::vector<std::int64_t>> constant_integers(const Values& values, const Node& node, std::size_t i) {
  if (!node.has_input(i)) return std::nullopt;
  const Tensor* tensor = values.graph().constant(node.inputs[i]);
  if (tensor == nullptr || tensor->dtype() == DType::kF32) return std::nullopt;
  return tensor->to_integers();
}

AxisSplit split_at(const Shape& shape, std::size_t axis) {
  AxisSplit out;
  for (std::size_t i = 0; i < shape.size(); ++i) (i < axis ? out.outer : i == axis ? out.extent : out.inner) *= shape[i];
  return out;
}

Result<bool> lower_light(Values& values, const Node& node) {
  if (!has_static_outputs(values, node)) return false;
  for (const std::string& input : node.inputs) {
    if (!input.empty() && !values.known(input)) return false;
  }
  for (const auto lower : {lower_normalization, lower_reduction, lower_logic, lower_cast, lower_quantization, lower_gather, lower_scatter,
                           lower_ordering, lower_resize, lower_integer_products, lower_rearranging, lower_spectral, lower_recurrent}) {
    KERF_ASSIGN(const bool lowered, lower(values, node));
    if (lowered) return true;
  }
  return false;
}

}  // namespace kerf::engine
