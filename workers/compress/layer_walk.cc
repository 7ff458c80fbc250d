#include "workers/compress/layer_walk.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>

#include "workers/compress/layer.h"

namespace kerf::compress {

using graph::Graph;
using graph::Node;
using graph::Tensor;

Result<void> walk_layers(const Graph& reference, const Graph& graph,
                         const std::vector<ReconstructedLayer>& layers,
                         const Calibration& calibration, const LayerVisit& visit) {
  std::map<std::string, const ReconstructedLayer*> by_name;
  for (const ReconstructedLayer& layer : layers) by_name[layer.name] = &layer;
  const std::vector<Tensor> samples = calibration.some_samples(reconstruct_samples(reference));
  if (samples.empty() || samples[0].dim(0) == 0)
    return invalid_argument("the calibration data has no samples");
  PartialRun wanted(reference, samples, calibration.threads());
  PartialRun now(graph, samples, calibration.threads());

  std::set<std::string> dirty;  // values that aren't the reference's any more
  std::vector<std::string> order;
  for (const Node& node : graph.nodes) order.push_back(node.name);
  for (const std::string& name : order) {
    const Node node = *find_node(graph, name);
    bool changed = std::any_of(node.inputs.begin(), node.inputs.end(),
                               [&](const std::string& input) { return dirty.contains(input); });
    if (const auto found = by_name.find(name); found != by_name.end()) {
      KERF_ASSIGN(changed, visit(node, *found->second, changed || found->second->changed, wanted, now));
    }
    if (changed) dirty.insert(node.outputs.begin(), node.outputs.end());
  }
  return {};
}

}  // namespace kerf::compress
