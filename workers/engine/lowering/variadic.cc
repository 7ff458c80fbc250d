// Max, Min, Sum and Mean of any number of floats: one pass over all of them.
#include "workers/engine/lowering/chains.h"
#include "workers/engine/lowering/layers.h"
#include "workers/engine/lowering/pointwise_step.h"

namespace kerf::engine {

using graph::DType;
using graph::Node;

Result<bool> lower_variadic(Values& values, const Node& node) {
  const bool mean = node.op == "Mean";
  const auto op = mean ? PointOp::kAdd : binary_op(node, false);
  if (!op || node.op == "PRelu" || node.inputs.size() > 16 || values.info(node.outputs[0]).dtype != DType::kF32) return false;
  PendingPointwise pending;
  pending.shape = values.info(node.outputs[0]).shape;
  if (graph::element_count(pending.shape).value_or(0) == 0) return false;
  for (std::size_t k = 0; k < node.inputs.size(); ++k) {
    if (values.info(node.inputs[k]).dtype != DType::kF32) return false;
    KERF_TRY(add_operand(values, pending, node.inputs[k]));
    PointStage stage;
    stage.op = *op;
    stage.operand = static_cast<int>(k);
    if (k > 0) pending.stages.push_back(stage);
  }
  if (mean) {
    PointStage stage;
    stage.op = PointOp::kBlock;
    stage.block = vector::divide_by;
    stage.alpha = static_cast<float>(node.inputs.size());
    pending.stages.push_back(stage);
  }
  KERF_ASSIGN(const Rep rep, emit_pointwise(values, pending, Numeric{}, node.name, node.op));
  values.set(node.outputs[0], rep);
  return true;
}

}  // namespace kerf::engine
