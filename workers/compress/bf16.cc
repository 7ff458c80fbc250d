#include "workers/compress/bf16.h"

#include "workers/compress/layer.h"

namespace kerf::compress {

graph::Tensor round_to_bf16(const graph::Tensor& weights) {
  graph::Tensor out = weights;
  for (float& value : out.mutable_as<float>())
    value = graph::bf16_to_f32(graph::f32_to_bf16(value));
  return out;
}

bool make_bf16(graph::Graph& graph, const std::string& layer) {
  graph::Node* node = find_node(graph, layer);
  if (node == nullptr) return false;
  const std::string weights = weights_of(graph, *node);
  if (weights.empty() || weights != node->inputs[1]) return false;
  set_constant(graph, *node, 1, round_to_bf16(graph.initializers.at(weights)));
  node->attributes["kerf_precision"] = std::string("bf16");
  return true;
}

}  // namespace kerf::compress
