#include "workers/compress/layer.h"

#include <algorithm>

namespace kerf::compress {

using graph::Graph;
using graph::Node;
using graph::Shape;
using graph::Tensor;

std::size_t output_channel_axis(const Node& layer) {
  if (layer.op == "Conv") return 0;
  if (layer.op == "Gemm") return layer.integer("transB", 0) != 0 ? 0 : 1;
  return 1;
}

std::string weights_of(const Graph& graph, const Node& layer) {
  if (!layer.has_input(1)) return {};
  const std::string& name = layer.inputs[1];
  if (graph.constant(name) != nullptr) return name;
  const Node* source = graph.producer(name);
  if (source == nullptr || source->op != "DequantizeLinear" || !source->has_input(0)) return {};
  return graph.constant(source->inputs[0]) != nullptr ? source->inputs[0] : std::string();
}

std::int64_t output_channels(const Node& layer, const Shape& weights) {
  const std::size_t axis = output_channel_axis(layer);
  if (weights.size() <= axis) return 0;
  return weights[axis] * (layer.op == "ConvTranspose" ? layer.integer("group", 1) : 1);
}

std::int64_t layer_macs(const Graph& graph, const Node& layer) {
  const Tensor* weights = graph.constant(weights_of(graph, layer));
  const bool transposed = layer.op == "ConvTranspose";
  const graph::ValueInfo* value = graph.value(transposed ? layer.inputs[0] : layer.outputs[0]);
  if (weights == nullptr || value == nullptr || value->shape.empty()) return 0;
  // Each output element of a Conv, Gemm or MatMul takes one multiply-add for each weight of its
  // channel; each input element of a ConvTranspose takes one for each weight of its channel.
  std::int64_t positions = 1;
  for (std::size_t i = 1; i < value->shape.size(); ++i) {
    if (value->shape[i] < 0) return 0;
    positions *= value->shape[i];
  }
  const std::int64_t channels =
      transposed ? weights->dim(0) : output_channels(layer, weights->shape());
  if (channels == 0) return 0;
  return positions * (weights->elements() / channels);
}

const Node* find_node(const Graph& graph, const std::string& name) {
  const auto found = std::find_if(graph.nodes.begin(), graph.nodes.end(),
                                  [&](const Node& node) { return node.name == name; });
  return found == graph.nodes.end() ? nullptr : &*found;
}

Node* find_node(Graph& graph, const std::string& name) {
  return const_cast<Node*>(find_node(static_cast<const Graph&>(graph), name));
}

void set_constant(Graph& graph, Node& node, std::size_t input, Tensor value) {
  std::string& name = node.inputs[input];
  std::size_t readers = graph.is_output(name) ? 1 : 0;
  for (const Node& other : graph.nodes) {
    readers += static_cast<std::size_t>(std::count(other.inputs.begin(), other.inputs.end(), name));
  }
  if (readers > 1) name = graph.fresh_name(node.name + "." + name);
  graph.initializers[name] = std::move(value);
}

}  // namespace kerf::compress
