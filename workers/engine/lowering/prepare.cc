#include "workers/engine/lowering/prepare.h"

#include <cmath>

#include "workers/engine/lowering/chains.h"
#include "workers/engine/passes/passes_internal.h"
#include "workers/engine/passes/rewriter.h"
#include "workers/graph/shape_inference.h"

namespace kerf::engine {
namespace {

using graph::Graph;
using graph::Node;
using graph::Tensor;

bool is_close(float a, float b) { return std::fabs(a - b) <= 1e-5F * std::fabs(b); }

bool is_scalar(const Rewriter& rewriter, const std::string& value, float wanted) {
  const Tensor* tensor = rewriter.constant(value);
  return tensor != nullptr && tensor->dtype() == graph::DType::kF32 && tensor->elements() == 1 &&
         is_close(tensor->as<float>()[0], wanted);
}

/// The other input of a two-input node, or "".
std::string other_input(const Node& node, const std::string& value) {
  if (node.inputs.size() != 2) return "";
  if (node.inputs[0] == value) return node.inputs[1];
  return node.inputs[1] == value ? node.inputs[0] : "";
}

/// x * f(x), where f(x) is read by the product alone.
void join_gated(Rewriter& rewriter, std::size_t i) {
  Node& gate = rewriter.node(i);
  const bool hard = gate.op == "HardSigmoid" && is_close(gate.real("alpha", 0.2F), 1.0F / 6.0F) &&
                    is_close(gate.real("beta", 0.5F), 0.5F);
  if (gate.op != "Sigmoid" && !hard) return;
  const auto product = rewriter.only_consumer(gate.outputs[0]);
  if (!product || rewriter.node(*product).op != "Mul" ||
      other_input(rewriter.node(*product), gate.outputs[0]) != gate.inputs[0]) {
    return;
  }
  gate.op = hard ? "HardSwish" : "kerf_Swish";
  gate.attributes.clear();
  gate.name = rewriter.node(*product).name;
  rewriter.take_output(i, *product);
  // The product read x too.
  rewriter.set_input(i, 0, std::string(gate.inputs[0]));
}

/// x / sqrt(2) -> Erf -> + 1 -> * x -> * 0.5, the last two in either order.
void join_gelu(Rewriter& rewriter, std::size_t i) {
  if (rewriter.node(i).op != "Erf") return;
  const auto scaled = rewriter.producer(rewriter.node(i).inputs[0]);
  if (!scaled || !rewriter.only_consumer(rewriter.node(*scaled).outputs[0])) return;
  const Node& scale = rewriter.node(*scaled);
  const bool divides = scale.op == "Div" && is_scalar(rewriter, scale.inputs[1], std::sqrt(2.0F));
  const bool multiplies = scale.op == "Mul" && is_scalar(rewriter, scale.inputs[1], std::sqrt(0.5F));
  if (!divides && !multiplies) return;
  const std::string x = scale.inputs[0];
  const auto plus = rewriter.only_consumer(rewriter.node(i).outputs[0]);
  if (!plus || rewriter.node(*plus).op != "Add" ||
      !is_scalar(rewriter, other_input(rewriter.node(*plus), rewriter.node(i).outputs[0]), 1.0F)) {
    return;
  }
  const std::string& sum = rewriter.node(*plus).outputs[0];
  const auto first = rewriter.only_consumer(sum);
  if (!first || rewriter.node(*first).op != "Mul") return;
  const std::string& product = rewriter.node(*first).outputs[0];
  const std::string with = other_input(rewriter.node(*first), sum);
  if (with == x) {
    const auto half = rewriter.only_consumer(product);
    if (!half || rewriter.node(*half).op != "Mul" ||
        !is_scalar(rewriter, other_input(rewriter.node(*half), product), 0.5F)) {
      return;
    }
    Node& gelu = rewriter.node(*scaled);
    gelu.op = "Gelu";
    gelu.attributes.clear();
    gelu.inputs = {x};
    rewriter.remove(i);
    rewriter.remove(*plus);
    rewriter.remove(*first);
    rewriter.take_output(*scaled, *half);
    return;
  }
  // x * 0.5 made before: Mul(x, 0.5) * (1 + erf).
  const auto half = rewriter.producer(with);
  if (!half || rewriter.node(*half).op != "Mul" || !rewriter.only_consumer(with) ||
      !is_scalar(rewriter, other_input(rewriter.node(*half), x), 0.5F)) {
    return;
  }
  Node& gelu = rewriter.node(*scaled);
  gelu.op = "Gelu";
  gelu.attributes.clear();
  gelu.inputs = {x};
  rewriter.remove(i);
  rewriter.remove(*plus);
  rewriter.remove(*half);
  rewriter.take_output(*scaled, *first);
}

bool moves_values_only(const Rewriter& rewriter, const Node& node) {
  if (node.op == "MaxPool") return node.outputs.size() == 1;
  if (node.op == "Concat") {
    for (const std::string& input : node.inputs) {
      if (rewriter.constant(input) != nullptr) return false;
    }
    return true;
  }
  return node.op == "Reshape" || node.op == "Flatten" || node.op == "Transpose" ||
         node.op == "Squeeze" || node.op == "Unsqueeze";
}

/// op -> QuantizeLinear becomes QuantizeLinear -> op. Rounding is monotonic, so a maximum of
/// rounded values is the rounded maximum; the others only move values.
bool hoist_quantize(Graph& graph, Rewriter& rewriter, std::size_t i) {
  if (rewriter.node(i).op != "QuantizeLinear" || !rewriter.alive(i)) return false;
  if (!tensor_numeric(rewriter.graph(), rewriter.node(i))) return false;
  const auto maker = rewriter.producer(rewriter.node(i).inputs[0]);
  if (!maker || !moves_values_only(rewriter, rewriter.node(*maker)) ||
      !rewriter.only_consumer(rewriter.node(i).inputs[0])) {
    return false;
  }
  const Node quantize = rewriter.node(i);
  const std::size_t data_inputs = rewriter.node(*maker).op == "Concat" ? rewriter.node(*maker).inputs.size() : 1;
  for (std::size_t k = 0; k < data_inputs; ++k) {
    if (rewriter.constant(rewriter.node(*maker).inputs[k]) != nullptr) return false;
  }
  for (std::size_t k = 0; k < data_inputs; ++k) {
    Node before = quantize;
    before.name = quantize.name + "_before";
    before.inputs[0] = rewriter.node(*maker).inputs[k];
    before.outputs = {rewriter.fresh(before.inputs[0] + "_q")};
    const std::string output = before.outputs[0];
    // The new value is as large as what it rounds, and of the type of what was rounded before.
    const graph::ValueInfo* whole = graph.value(before.inputs[0]);
    const graph::ValueInfo* rounded = graph.value(quantize.outputs[0]);
    if (whole != nullptr && rounded != nullptr) {
      const graph::ValueInfo made{output, rounded->dtype, whole->shape};
      graph.values[output] = made;
    }
    rewriter.add_node(std::move(before));
    rewriter.set_input(*maker, k, output);
  }
  rewriter.take_output(*maker, i);
  return true;
}

}  // namespace

Result<Graph> prepare(Graph graph) {
  KERF_TRY(fold_constants(graph, true));
  KERF_TRY(graph::infer_shapes(graph));
  KERF_TRY(fold_constants(graph, true));
  if (!graph.disabled_passes.contains(graph::kFuseActivations)) {
    Rewriter rewriter(graph);
    for (std::size_t i = 0; i < rewriter.size(); ++i) {
      if (rewriter.alive(i)) join_gated(rewriter, i);
    }
    for (std::size_t i = 0; i < rewriter.size(); ++i) {
      if (rewriter.alive(i)) join_gelu(rewriter, i);
    }
    KERF_TRY(rewriter.finish());
  }
  bool moved = true;
  while (moved) {
    moved = false;
    Rewriter rewriter(graph);
    const std::size_t count = rewriter.size();
    for (std::size_t i = 0; i < count; ++i) moved = hoist_quantize(graph, rewriter, i) || moved;
    KERF_TRY(rewriter.finish());
  }
  return graph;
}

}  // namespace kerf::engine
