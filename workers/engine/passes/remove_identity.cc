#include <numeric>

#include "workers/engine/passes/passes_internal.h"
#include "workers/engine/passes/rewriter.h"

namespace kerf::engine {
namespace {

using graph::Graph;
using graph::Node;
using graph::Shape;

bool is_static(const Shape& shape) { return graph::element_count(shape).has_value(); }

bool same_static_shape(const Graph& graph, const Node& node) {
  const graph::ValueInfo* in = graph.value(node.inputs[0]);
  const graph::ValueInfo* out = graph.value(node.outputs[0]);
  if (in == nullptr || out == nullptr || in->shape.size() != out->shape.size()) return false;
  // One free dimension may stay free: with the others equal, so is it.
  int free_dims = 0;
  for (std::size_t i = 0; i < in->shape.size(); ++i) {
    if (in->shape[i] != out->shape[i]) return false;
    if (in->shape[i] < 0) ++free_dims;
  }
  return free_dims == 0 || (free_dims == 1 && !in->shape.empty() && in->shape[0] < 0);
}

bool changes_nothing(const Graph& graph, const Node& node) {
  if (node.inputs.empty() || node.inputs[0].empty()) return false;
  for (std::size_t i = 1; i < node.outputs.size(); ++i) {
    if (!node.outputs[i].empty()) return false;
  }
  const std::string& op = node.op;
  if (op == "Identity") return true;
  if (op == "Dropout") {
    if (!node.has_input(2)) return true;
    const graph::Tensor* training = graph.constant(node.inputs[2]);
    return training != nullptr && training->elements() == 1 && training->to_integers()[0] == 0;
  }
  if (op == "Sum" || op == "Max" || op == "Min" || op == "Mean" || op == "Concat") {
    return node.inputs.size() == 1;
  }
  if (op == "Cast") {
    const graph::ValueInfo* in = graph.value(node.inputs[0]);
    const graph::ValueInfo* out = graph.value(node.outputs[0]);
    return in != nullptr && out != nullptr && in->dtype == out->dtype;
  }
  if (op == "Reshape" || op == "Squeeze" || op == "Unsqueeze" || op == "Flatten" || op == "Expand") {
    return same_static_shape(graph, node);
  }
  if (op == "Transpose") {
    Shape same(node.integers("perm").size());
    std::iota(same.begin(), same.end(), 0);
    return !same.empty() && node.integers("perm") == same;
  }
  if (op == "Pad") {
    const graph::Tensor* pads = node.has_input(1) ? graph.constant(node.inputs[1]) : nullptr;
    if (pads == nullptr) return false;
    for (const std::int64_t pad : pads->to_integers()) {
      if (pad != 0) return false;
    }
    return true;
  }
  if (op == "Slice") {
    return same_static_shape(graph, node) && graph.value(node.outputs[0]) != nullptr &&
           is_static(graph.value(node.outputs[0])->shape) &&
           (!node.has_input(4) || (graph.constant(node.inputs[4]) != nullptr &&
                                   graph.constant(node.inputs[4])->to_integers() ==
                                       Shape(static_cast<std::size_t>(graph.constant(node.inputs[4])->elements()), 1)));
  }
  return false;
}

}  // namespace

Result<void> remove_identity(Graph& graph) {
  Rewriter rewriter(graph);
  for (std::size_t i = 0; i < rewriter.size(); ++i) {
    if (changes_nothing(graph, rewriter.node(i))) {
      rewriter.bypass(i, std::string(rewriter.node(i).inputs[0]));
    }
  }
  return rewriter.finish();
}

}  // namespace kerf::engine
