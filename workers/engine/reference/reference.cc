#include "workers/engine/reference/reference.h"

#include "workers/engine/reference/kernels.h"

namespace kerf::engine {

using graph::Node;
using graph::Tensor;

namespace {

const reference::Registry& registry() {
  static const reference::Registry made = [] {
    reference::Registry r;
    reference::add_elementwise(r);
    reference::add_shaping(r);
    reference::add_indexing(r);
    reference::add_convolution(r);
    reference::add_matrix(r);
    reference::add_pooling(r);
    reference::add_normalization(r);
    reference::add_reduction(r);
    reference::add_quantization(r);
    reference::add_resize(r);
    reference::add_recurrent(r);
    reference::add_scatter(r);
    reference::add_axis_normalization(r);
    reference::add_sampling(r);
    reference::add_spectral(r);
    reference::add_placing(r);
    reference::add_bitwise(r);
    reference::add_einsum(r);
    return r;
  }();
  return made;
}

bool known_domain(const Node& node) {
  return node.domain.empty() || node.domain == "ai.onnx" || node.domain == "com.microsoft";
}

}  // namespace

bool has_reference(const Node& node) { return known_domain(node) && registry().contains(node.op); }

Result<std::vector<Tensor>> evaluate(const Node& node, std::span<const Tensor> inputs) {
  const auto found = registry().find(node.op);
  if (found == registry().end() || !known_domain(node)) {
    return Error{ErrorCode::kUnimplemented, "node " + node.label() + ": no kernel for the op"};
  }
  if (inputs.size() < node.inputs.size()) {
    return reference::bad(node, "fewer inputs than the node names");
  }
  return found->second(node, inputs);
}

Result<std::map<std::string, Tensor>> run_reference_values(const graph::Graph& graph,
                                                           const std::vector<Tensor>& inputs) {
  if (inputs.size() != graph.inputs.size()) {
    return invalid_argument("the model has " + std::to_string(graph.inputs.size()) +
                            " inputs, not " + std::to_string(inputs.size()));
  }
  std::map<std::string, Tensor> values = graph.initializers;
  for (std::size_t i = 0; i < inputs.size(); ++i) values[graph.inputs[i].name] = inputs[i];
  for (const Node& node : graph.nodes) {
    std::vector<Tensor> arguments;
    for (const std::string& name : node.inputs) {
      if (name.empty()) {
        arguments.emplace_back();
        continue;
      }
      const auto found = values.find(name);
      if (found == values.end()) return reference::bad(node, "input '" + name + "' has no value");
      arguments.push_back(found->second);
    }
    KERF_ASSIGN(std::vector<Tensor> results, evaluate(node, arguments));
    for (std::size_t i = 0; i < node.outputs.size() && i < results.size(); ++i) {
      if (!node.outputs[i].empty()) values[node.outputs[i]] = std::move(results[i]);
    }
  }
  return values;
}

Result<std::vector<Tensor>> run_reference(const graph::Graph& graph,
                                          const std::vector<Tensor>& inputs) {
  KERF_ASSIGN(auto values, run_reference_values(graph, inputs));
  std::vector<Tensor> outputs;
  for (const graph::ValueInfo& output : graph.outputs) {
    const auto found = values.find(output.name);
    if (found == values.end()) {
      return invalid_argument("graph output '" + output.name + "' has no producer");
    }
    outputs.push_back(found->second);
  }
  return outputs;
}

}  // namespace kerf::engine
