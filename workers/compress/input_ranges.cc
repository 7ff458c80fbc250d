#include "workers/compress/input_ranges.h"

#include <set>
#include <vector>

#include "workers/compress/layer.h"
#include "workers/compress/sign_activations.h"

namespace kerf::compress {

using graph::Graph;

Result<InputRanges> choose_ranges(const ResolvedPlan& plan, const Graph& graph,
                                  const std::string& variant, Calibration& calibration) {
  std::map<std::string, const LayerPlan*> wanted;
  std::set<std::string> signs;
  std::vector<std::string> values;
  for (const auto& [name, layer] : plan.layers) {
    if (!layer.runs_as_integers() || layer.activation_range == "dynamic") continue;
    const std::string& value = find_node(graph, name)->inputs[0];
    values.push_back(value);
    if (layer.activation_bits == 1) {
      signs.insert(value);
    } else {
      wanted.try_emplace(value, &layer);
    }
  }
  KERF_ASSIGN(auto statistics, calibration.statistics(graph, variant, values, false));
  InputRanges out;
  for (const auto& [value, layer] : wanted) {
    out.ranges[value] = choose_range(*statistics.at(value), layer->range, layer->symmetric);
  }
  for (const std::string& value : signs) out.sign_scales[value] = sign_scale(*statistics.at(value));
  return out;
}

}  // namespace kerf::compress
