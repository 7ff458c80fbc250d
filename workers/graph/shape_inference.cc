#include "workers/graph/shape_inference.h"

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
  return inference.finish(graph);
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
