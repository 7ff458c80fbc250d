#include "workers/compress/recover.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "workers/compress/bias_correction.h"
#include "workers/compress/layer.h"
#include "workers/compress/quantize_weights.h"
#include "workers/compress/reestimate_norms.h"
#include "workers/compress/round_layer.h"

namespace kerf::compress {

using graph::Graph;
using graph::Node;
using graph::Tensor;

namespace {

/// Whether each output channel of a layer's stored weights has a scale of its own, or none.
bool has_channel_scales(const Graph& graph, const std::string& name, const LayerPlan& layer,
                        const std::map<std::string, QuantizedLayer>& quantized) {
  const auto how = quantized.find(name);
  if (how == quantized.end()) return layer.weight_bits == 32 && layer.codebook.entries == 0;
  const Node& node = *find_node(graph, name);
  const std::int64_t channels = output_channels(node, how->second.weights.values.shape());
  return how->second.weights.group == 0 && layer.codebook.entries == 0 &&
         static_cast<std::int64_t>(how->second.weights.scales.size()) == channels;
}

}  // namespace

Tensor weights_as_read(const Graph& graph, const std::string& layer,
                       const std::optional<QuantizedLayer>& quantized) {
  const Node& node = *find_node(graph, layer);
  return quantized ? dequantize(quantized->weights, output_channel_axis(node))
                   : graph.initializers.at(node.inputs[1]);
}

WeightChanges pruned_layers(const Graph& base, const ResolvedPlan& plan, const Graph& pruned) {
  WeightChanges out;
  for (const auto& [name, layer] : plan.layers) {
    const Node* node = find_node(pruned, name);
    const Node* original = find_node(base, name);
    if (node == nullptr || original == nullptr) continue;
    const Tensor* after = pruned.constant(node->inputs[1]);
    const Tensor* before = base.constant(original->inputs[1]);
    if (after == nullptr || before == nullptr) continue;
    if (plan.prunes_single_weights(layer) || after->shape() != before->shape()) {
      out[name] = {std::nullopt, *after};
    }
  }
  return out;
}

std::vector<ReconstructedLayer> layers_to_recover(
    const PreparedModel& model, const Graph& base, const ResolvedPlan& plan, const Graph& pruned,
    const std::vector<bool>& keep, const std::map<std::string, SplitLayer>& splits) {
  std::vector<ReconstructedLayer> out;
  const WeightChanges changed = pruned_layers(base, plan, pruned);
  for (const auto& [name, layer] : plan.layers) {
    ReconstructedLayer entry;
    entry.name = name;
    entry.keep_zeros = plan.prunes_single_weights(layer);
    entry.rounded = changes_weights(layer);
    const auto split = splits.find(name);
    entry.changed = changed.contains(name) || split != splits.end();
    const std::string& original = split == splits.end() ? name : split->second.name;
    const Node* node = find_node(base, original);
    const Tensor* weights = node == nullptr ? nullptr : base.constant(weights_of(base, *node));
    if (weights != nullptr && (split == splits.end() || split->second.parts.back() == name)) {
      entry.reference_channels = static_cast<std::size_t>(output_channels(*node, weights->shape()));
      const auto own = model.channels.outputs.find(original);
      for (std::size_t i = 0; i < entry.reference_channels; ++i) {
        if (own == model.channels.outputs.end() || keep[static_cast<std::size_t>(own->second[i])])
          entry.channels.push_back(i);
      }
    }
    out.push_back(std::move(entry));
  }
  return out;
}

Result<std::map<std::string, QuantizedLayer>> fit_and_round(
    const Graph& base, const std::vector<ReconstructedLayer>& layers, const ResolvedPlan& plan,
    const Calibration& calibration, Graph& pruned, Graph& rounded) {
  std::map<std::string, QuantizedLayer> out;
  Graph working = pruned;  // as the layers that follow see it
  rounded = pruned;
  const auto final = [&](const std::string& name, const SecondMoments* moments) -> Result<bool> {
    const Node fitted = *find_node(working, name);
    for (Graph* graph : {&pruned, &rounded}) {
      Node& node = *find_node(*graph, name);
      node.op = fitted.op;  // a MatMul that got a bias
      node.inputs = fitted.inputs;
      for (std::size_t i = 1; i < fitted.inputs.size() && i < 3; ++i) {
        if (const Tensor* constant = working.constant(fitted.inputs[i]))
          graph->initializers[fitted.inputs[i]] = *constant;
      }
    }
    const LayerPlan& layer = plan.at(name);
    if (!changes_weights(layer)) return false;
    const bool bias_follows = moments != nullptr && can_take_bias(working, fitted);
    KERF_ASSIGN(auto quantized, round_layer(rounded, name, layer, moments, bias_follows));
    Tensor weights = weights_as_read(rounded, name, quantized);
    if (bias_follows) {
      const auto error =
          mean_change(fitted, pruned.initializers.at(fitted.inputs[1]), weights, *moments);
      (void)correct_bias(working, name, error);
      (void)correct_bias(rounded, name, error);
    }
    set_constant(working, *find_node(working, name), 1, std::move(weights));
    if (quantized) out[name] = std::move(*quantized);
    return true;
  };
  KERF_TRY(reconstruct(base, working, layers, calibration, final));
  return out;
}

Result<void> reestimate(const Graph& base, const std::vector<ReconstructedLayer>& changed,
                        const ResolvedPlan& plan, const Calibration& calibration, Graph& pruned,
                        Graph& rounded, std::map<std::string, QuantizedLayer>& layers) {
  Graph as_read = rounded;
  for (const auto& [name, how] : layers) {
    set_constant(as_read, *find_node(as_read, name), 1, weights_as_read(rounded, name, how));
  }
  const auto scales = [&](const std::string& name) {
    return has_channel_scales(rounded, name, plan.at(name), layers);
  };
  return reestimate_norms(base, as_read, changed, scales, calibration,
                          [&](const std::string& name, const ChannelCorrection& correction) {
    put_correction(pruned, name, correction);
    const auto how = layers.find(name);
    if (how == layers.end()) return put_correction(rounded, name, correction);
    for (std::size_t c = 0; scales(name) && c < correction.factors.size(); ++c) {
      float& scale = how->second.weights.scales[c];
      scale = std::max(std::numeric_limits<float>::min(),
                       static_cast<float>(static_cast<double>(scale) * correction.factors[c]));
    }
    (void)correct_bias(rounded, name, correction.taken);
  });
}

}  // namespace kerf::compress
