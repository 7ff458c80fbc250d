// A node that no kernel of its own does: the plain one.
#include "workers/engine/lowering/layers.h"
#include "workers/engine/lowering/reference_step.h"
#include "workers/engine/reference/reference.h"

namespace kerf::engine {

using graph::DType;
using graph::Graph;
using graph::Node;
using graph::Shape;
using graph::Tensor;

Result<void> lower_reference(Values& values, const Node& node) {
  const Graph& graph = values.graph();
  if (!has_reference(node)) {
    return Error{ErrorCode::kUnimplemented, "node " + node.label() + ": no kernel for the op"};
  }
  std::vector<Tensor> inputs;
  std::vector<SlotId> slots;
  for (const std::string& input : node.inputs) {
    if (input.empty()) {
      inputs.emplace_back();
      slots.push_back(-1);
      continue;
    }
    if (const Tensor* constant = graph.constant(input)) {
      inputs.push_back(*constant);
      slots.push_back(-1);
      continue;
    }
    if (!values.known(input)) {
      // Weights behind a DequantizeLinear that only layers read.
      const Node* source = graph.producer(input);
      if (source == nullptr || source->op != "DequantizeLinear") return Error{ErrorCode::kInternal, "value '" + input + "' isn't there yet"};
      KERF_ASSIGN(const LayerWeights weights, layer_weights(graph, node));
      inputs.push_back(weights.real);
      slots.push_back(-1);
      continue;
    }
    const graph::ValueInfo& info = values.info(input);
    KERF_ASSIGN(Rep rep, values.first(input));
    if (info.dtype == DType::kF32) {
      KERF_ASSIGN(rep, values.as(input, DType::kF32, Layout::kPlain));
    }
    rep = values.in_layout(input, rep, Layout::kPlain);
    inputs.emplace_back(rep.numeric.dtype, values.dims(rep));
    slots.push_back(rep.slot);
  }
  std::vector<SlotId> outputs;
  std::vector<std::pair<DType, Shape>> types;
  for (const std::string& output : node.outputs) {
    if (output.empty()) continue;
    const graph::ValueInfo* info = graph.value(output);
    if (info == nullptr || !graph::element_count(info->shape)) {
      return Error{ErrorCode::kUnimplemented, "node " + node.label() + ": the shape of '" + output + "' depends on data"};
    }
    Rep rep;
    rep.numeric.dtype = info->dtype;
    rep.slot = values.new_slot(info->dtype, info->shape, Layout::kPlain);
    outputs.push_back(rep.slot);
    types.emplace_back(info->dtype, info->shape);
    values.set(output, rep);
  }
  const bool layer = graph::is_layer(graph, node);
  auto step = make_reference_step(node, std::move(inputs), std::move(slots), std::move(outputs), std::move(types));
  step->info.is_layer = layer;
  values.emit(std::move(step), node.name, node.op, "f32 (reference)");
  return {};
}

}  // namespace kerf::engine
