#include "workers/compress/round_layer.h"

#include "workers/compress/adaptive_rounding.h"
#include "workers/compress/layer.h"
#include "workers/compress/layer_input.h"
#include "workers/compress/represent_weights.h"

namespace kerf::compress {

bool rounds_adaptively(const LayerPlan& plan) {
  return plan.weight_bits <= 8 && plan.weight_bits >= 2 && plan.codebook.entries == 0 &&
         plan.rounding == "adaptive";
}

Result<std::optional<QuantizedLayer>> round_layer(graph::Graph& graph, const std::string& layer,
                                                  const LayerPlan& plan,
                                                  const SecondMoments* moments, bool bias_follows) {
  KERF_ASSIGN(std::optional<QuantizedLayer> out, represent_weights(layer, plan, graph));
  if (!out || moments == nullptr || !rounds_adaptively(plan)) return out;
  const graph::Node& node = *find_node(graph, layer);
  AdaptiveRounding how;
  how.bits = plan.weight_bits;
  how.keep_zeros = plan.prune.ratio > 0 && plan.prune.structure != "channel";
  how.search_scale = plan.weight_range == "mse" || plan.weight_range == "entropy";
  how.bias_follows = bias_follows;
  const auto rounded = round_adaptively(node, graph.initializers.at(node.inputs[1]), *moments, how,
                                        out->weights);
  if (!rounded.has_value()) return with_context("layer '" + layer + "'", rounded.error());
  return out;
}

std::vector<std::vector<std::string>> moment_parts(const graph::Graph& graph,
                                                   const std::vector<std::string>& layers) {
  std::vector<std::vector<std::string>> out;
  std::size_t bytes = 0;
  for (const std::string& name : layers) {
    const graph::Node* node = find_node(graph, name);
    const auto input = node == nullptr ? std::nullopt : LayerInput::of(graph, *node);
    const std::size_t needed = input ? SecondMoments::bytes_for(*input, 0) : 0;
    if (out.empty() || bytes + needed > Calibration::kMomentBytes) {
      out.emplace_back();
      bytes = 0;
    }
    out.back().push_back(name);
    bytes += needed;
  }
  return out;
}

}  // namespace kerf::compress
