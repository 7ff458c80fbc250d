#include "workers/engine/passes/passes_internal.h"
#include "workers/engine/passes/rewriter.h"

namespace kerf::engine {
namespace {

using graph::DType;
using graph::Graph;
using graph::Node;
using graph::Tensor;

std::string dequantized(Rewriter& rewriter, const Node& node, std::size_t first, std::int64_t axis) {
  Node dq;
  dq.name = node.name + "_dequantize_" + std::to_string(first);
  dq.op = "DequantizeLinear";
  dq.inputs = {node.inputs[first], node.inputs[first + 1], node.inputs[first + 2]};
  dq.outputs = {rewriter.fresh(dq.name + "_out")};
  dq.attributes["axis"] = axis;
  const std::string output = dq.outputs[0];
  rewriter.add_node(std::move(dq));
  return output;
}

/// The s32 bias in units of x_scale * w_scale as f32; "" where there is none.
Result<std::string> real_bias(Rewriter& rewriter, const Node& node) {
  if (!node.has_input(8)) return std::string();
  const Tensor* bias = rewriter.constant(node.inputs[8]);
  const Tensor* x_scale = rewriter.constant(node.inputs[1]);
  const Tensor* w_scale = rewriter.constant(node.inputs[4]);
  if (bias == nullptr || x_scale == nullptr || w_scale == nullptr || x_scale->elements() != 1 ||
      (w_scale->elements() != 1 && w_scale->elements() != bias->elements())) {
    return invalid_argument("node " + node.label() + ": bias and scales must be constants that fit "
                            "each other");
  }
  std::vector<float> values;
  const std::vector<std::int64_t> integers = bias->to_integers();
  const std::vector<float> scales = w_scale->to_floats();
  for (std::size_t c = 0; c < integers.size(); ++c) {
    values.push_back(static_cast<float>(integers[c]) *
                     (x_scale->to_floats()[0] * scales[scales.size() == 1 ? 0 : c]));
  }
  return rewriter.add_constant(node.name + "_bias", Tensor::f32(bias->shape(), values));
}

Result<void> convert(Rewriter& rewriter, std::size_t i) {
  const Node old = rewriter.node(i);
  const bool conv = old.op == "QLinearConv";
  if (old.inputs.size() < 8) {
    return invalid_argument("node " + old.label() + ": expected at least 8 inputs");
  }
  const Tensor* weights = rewriter.constant(old.inputs[3]);
  const std::int64_t weights_axis = conv ? 0 : weights != nullptr ? static_cast<std::int64_t>(weights->rank()) - 1 : 1;
  KERF_ASSIGN(const std::string bias, conv ? real_bias(rewriter, old) : Result<std::string>(std::string()));
  rewriter.remove(i);
  Node layer = old;
  layer.op = conv ? "Conv" : "MatMul";
  layer.inputs = {dequantized(rewriter, old, 0, 1), dequantized(rewriter, old, 3, weights_axis)};
  if (!bias.empty()) layer.inputs.push_back(bias);
  layer.outputs = {rewriter.fresh(old.name + "_real")};
  Node quantize;
  quantize.name = old.name + "_quantize";
  quantize.op = "QuantizeLinear";
  quantize.inputs = {layer.outputs[0], old.inputs[6], old.inputs[7]};
  quantize.outputs = old.outputs;
  const std::size_t at = rewriter.add_node(std::move(layer));
  rewriter.node(at).name = old.name;
  rewriter.add_node(std::move(quantize));
  return {};
}

}  // namespace

Result<void> qoperator_to_qdq(Graph& graph) {
  Rewriter rewriter(graph);
  const std::size_t count = rewriter.size();
  for (std::size_t i = 0; i < count; ++i) {
    const std::string& op = rewriter.node(i).op;
    if (op == "QLinearConv" || op == "QLinearMatMul") KERF_TRY(convert(rewriter, i));
  }
  return rewriter.finish();
}

}  // namespace kerf::engine
