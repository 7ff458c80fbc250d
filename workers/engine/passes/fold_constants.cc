#include <algorithm>

#include "workers/engine/passes/passes_internal.h"
#include "workers/engine/passes/rewriter.h"
#include "workers/engine/reference/reference.h"

namespace kerf::engine {
namespace {

using graph::Graph;
using graph::Node;
using graph::Tensor;

/// Constants larger than this stay nodes: folding must not blow a small file up.
constexpr std::int64_t kMostElements = 1LL << 26U;

bool is_matrix_op(const std::string& op) {
  return op == "Conv" || op == "ConvTranspose" || op == "Gemm" || op == "MatMul";
}

/// A DequantizeLinear that gives a layer its weights says that the layer may run on integers.
bool gives_weights(Rewriter& rewriter, const Node& node) {
  if (node.op != "DequantizeLinear") return false;
  for (const std::size_t reader : rewriter.consumers(node.outputs[0])) {
    const Node& layer = rewriter.node(reader);
    if (is_matrix_op(layer.op) && layer.has_input(1) && layer.inputs[1] == node.outputs[0]) return true;
    // The weights of a Gemm often come transposed; move_transposes turns them first.
    if (layer.op == "Transpose" || layer.op == "Reshape") return true;
  }
  return false;
}

bool fits(const Graph& graph, const Node& node) {
  for (const std::string& output : node.outputs) {
    const graph::ValueInfo* info = graph.value(output);
    if (info == nullptr) continue;
    const auto count = graph::element_count(info->shape);
    if (count && *count > kMostElements) return false;
  }
  return true;
}

/// Transpose(DequantizeLinear(constant)) becomes DequantizeLinear(transposed constant).
void move_transpose(Rewriter& rewriter, std::size_t i) {
  Node& transpose = rewriter.node(i);
  const auto maker = rewriter.producer(transpose.inputs[0]);
  if (!maker || rewriter.node(*maker).op != "DequantizeLinear") return;
  const Node source = rewriter.node(*maker);
  const Tensor* values = rewriter.constant(source.inputs[0]);
  const Tensor* scales = rewriter.constant(source.inputs[1]);
  if (values == nullptr || scales == nullptr) return;
  Node turned = transpose;
  turned.inputs = {source.inputs[0]};
  const auto result = evaluate(turned, std::span(values, 1));
  if (!result.has_value()) return;
  std::vector<std::int64_t> order = transpose.integers("perm");
  if (order.empty()) {
    for (std::size_t k = values->rank(); k-- > 0;) order.push_back(static_cast<std::int64_t>(k));
  }
  Node moved = source;
  moved.name = source.name + "_transposed";
  moved.inputs[0] = rewriter.add_constant(source.inputs[0] + "_transposed", (*result)[0]);
  const std::string output = transpose.outputs[0];
  if (scales->elements() != 1) {
    std::int64_t axis = source.integer("axis", 1);
    if (axis < 0) axis += static_cast<std::int64_t>(values->rank());
    const auto at = std::find(order.begin(), order.end(), axis);
    if (at == order.end()) return;
    moved.attributes["axis"] = static_cast<std::int64_t>(at - order.begin());
  }
  moved.outputs = {output};
  rewriter.remove(i);
  rewriter.add_node(std::move(moved));
}

}  // namespace

Result<void> fold_constants(Graph& graph, bool with_shapes) {
  Rewriter rewriter(graph);
  const std::size_t count = rewriter.size();
  for (std::size_t i = 0; i < count; ++i) {
    if (!rewriter.alive(i)) continue;
    const Node node = rewriter.node(i);
    if (with_shapes && (node.op == "Shape" || node.op == "Size") && node.has_input(0)) {
      const graph::ValueInfo* info = graph.value(node.inputs[0]);
      if (info != nullptr && graph::element_count(info->shape) &&
          *graph::element_count(info->shape) <= kMostElements && !rewriter.is_output(node.outputs[0])) {
        // Only the shape is read, so any element type serves.
        const Tensor stand_in(graph::DType::kU8, info->shape);
        KERF_ASSIGN(std::vector<Tensor> results, evaluate(node, std::span(&stand_in, 1)));
        graph.initializers[node.outputs[0]] = std::move(results[0]);
        rewriter.remove(i);
        continue;
      }
    }
    if (node.op == "Transpose" && rewriter.producer(node.inputs[0])) {
      move_transpose(rewriter, i);
      continue;
    }
    bool constant = has_reference(node) && !gives_weights(rewriter, node) && fits(graph, node);
    std::vector<Tensor> inputs;
    for (const std::string& input : node.inputs) {
      const Tensor* tensor = input.empty() ? nullptr : graph.constant(input);
      constant = constant && (input.empty() || tensor != nullptr);
      inputs.push_back(tensor != nullptr ? *tensor : Tensor());
    }
    if (!constant) continue;
    if (std::any_of(node.outputs.begin(), node.outputs.end(),
                    [&](const std::string& output) { return rewriter.is_output(output); })) {
      continue;
    }
    KERF_ASSIGN(std::vector<Tensor> results, evaluate(node, inputs));
    for (std::size_t k = 0; k < node.outputs.size() && k < results.size(); ++k) {
      if (!node.outputs[k].empty()) graph.initializers[node.outputs[k]] = std::move(results[k]);
    }
    rewriter.remove(i);
  }
  return rewriter.finish();
}

}  // namespace kerf::engine
