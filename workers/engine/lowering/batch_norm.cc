// A BatchNormalization that no layer took in: a factor and a shift for each channel.
#include <cmath>

#include "workers/engine/lowering/layers.h"
#include "workers/engine/lowering/pointwise_step.h"

namespace kerf::engine {

using graph::DType;
using graph::Node;
using graph::Shape;
using graph::Tensor;

Result<bool> lower_batch_norm(Values& values, const Node& node, bool bf16_output) {
  const graph::ValueInfo& info = values.info(node.inputs[0]);
  if (node.outputs.size() != 1 || info.shape.size() < 2) return false;
  const Tensor* parts[4];
  for (std::size_t k = 0; k < 4; ++k) {
    parts[k] = values.graph().constant(node.inputs[k + 1]);
    if (parts[k] == nullptr || parts[k]->dtype() != DType::kF32 || parts[k]->elements() != info.shape[1]) return false;
  }
  std::vector<float> factor;
  std::vector<float> shift;
  const auto epsilon = static_cast<double>(node.real("epsilon", 1e-5F));
  for (std::size_t c = 0; c < static_cast<std::size_t>(info.shape[1]); ++c) {
    const auto p = [&](std::size_t k) { return static_cast<double>(parts[k]->as<float>()[c]); };
    const double f = p(0) / std::sqrt(p(3) + epsilon);
    factor.push_back(static_cast<float>(f));
    shift.push_back(static_cast<float>(p(1) - p(2) * f));
  }
  PendingPointwise pending;
  pending.shape = info.shape;
  KERF_TRY(add_operand(values, pending, node.inputs[0]));
  Shape per_channel(info.shape.size() - 1, 1);
  per_channel[0] = info.shape[1];
  for (const auto& [op, numbers] : {std::pair(PointOp::kMultiply, &factor), std::pair(PointOp::kAdd, &shift)}) {
    Rep rep;
    rep.slot = values.constant_slot(Tensor::f32(per_channel, *numbers));
    pending.operands.push_back({rep, per_channel});
    PointStage stage;
    stage.op = op;
    stage.operand = static_cast<int>(pending.operands.size() - 1);
    pending.stages.push_back(stage);
  }
  Numeric numeric;
  if (pending.operands[0].rep.numeric.dtype == DType::kBF16 && bf16_output) numeric.dtype = DType::kBF16;
  KERF_ASSIGN(const Rep rep, emit_pointwise(values, pending, numeric, node.name, node.op));
  values.set(node.outputs[0], rep);
  return true;
}

}  // namespace kerf::engine
