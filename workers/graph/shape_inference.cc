#include "workers/graph/shape_inference.h"

#include <algorithm>

#include "workers/graph/shapes/call.h"

namespace kerf::graph {

Result<void> infer_shapes(Graph& graph) {
  shapes::Inference inference(graph);
  graph.values.clear();
  KERF_TRY(inference.begin());
  for (const Node& node : graph.nodes) {
    const auto done = inference.infer(node);
    if (!done.has_value()) {
      inference.store(graph.values);
      return done.error();
    }
  }
  inference.store(graph.values);
  for (ValueInfo& output : graph.outputs) {
    const shapes::Value* value = inference.find(output.name);
    if (value == nullptr) {
      return invalid_argument("graph output '" + output.name + "' has no producer");
    }
    output.dtype = value->dtype;
    output.shape = value->shape;
    for (std::int64_t& dim : output.shape) dim = std::max<std::int64_t>(dim, -1);
  }
  return {};
}

const std::set<std::string>& known_ops() {
  static const std::set<std::string> names = [] {
    std::set<std::string> all;
    for (const auto& [name, op] : shapes::registry()) all.insert(name);
    return all;
  }();
  return names;
}

}  // namespace kerf::graph
