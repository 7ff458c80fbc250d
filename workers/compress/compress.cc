#include "workers/compress/compress.h"

#include <chrono>
#include <set>

#include "workers/compress/activation_ranges.h"
#include "workers/compress/bf16.h"
#include "workers/compress/bias_correction.h"
#include "workers/compress/insert_qdq.h"
#include "workers/compress/layer.h"
#include "workers/compress/plan_resolution.h"
#include "workers/compress/prune_channels.h"
#include "workers/compress/prune_unstructured.h"
#include "workers/compress/quantize_weights.h"
#include "workers/compress/storage_size.h"

namespace kerf::compress {
namespace {

using graph::Graph;
using graph::Node;
using graph::Tensor;

/// Writes the time since the last call into phase_ms. Times are reported, never decided upon.
class Phases {
 public:
  explicit Phases(std::map<std::string, double>& out) : out_(out) {}

  void end(const std::string& phase) {
    const auto now = std::chrono::steady_clock::now();
    out_[phase] += std::chrono::duration<double, std::milli>(now - last_).count();
    last_ = now;
  }

 private:
  std::map<std::string, double>& out_;
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

/// A layer's weights before single weights were pruned and rounded, and as they run.
struct WeightChange {
  Tensor before;
  Tensor after;
};

/// Zeroes single weights of the layers that the plan names.
Result<void> prune_single_weights(const ResolvedPlan& plan, Graph& graph,
                                  std::map<std::string, WeightChange>& changes) {
  for (const auto& [name, layer] : plan.layers) {
    if (!plan.prunes_single_weights(layer)) continue;
    Node* node = find_node(graph, name);
    if (node == nullptr) return internal_error("layer '" + name + "' is gone");
    const Tensor before = graph.initializers.at(node->inputs[1]);
    const NOfM pattern = n_of_m(layer.prune.structure);
    const std::size_t input_axis = output_channel_axis(*node) == 0 ? 1 : 0;
    Tensor after = pattern.m == 0 ? prune_by_magnitude(before, layer.prune.ratio)
                                  : prune_n_of_m(before, input_axis, pattern.n, pattern.m);
    changes[name] = {before, after};
    set_constant(graph, *node, 1, std::move(after));
  }
  return {};
}

Result<std::map<std::string, QuantizedLayer>> round_weights(const ResolvedPlan& plan, Graph& graph,
                                                            std::map<std::string, WeightChange>& changes) {
  std::map<std::string, QuantizedLayer> out;
  for (const auto& [name, layer] : plan.layers) {
    if (layer.weight_bits == 16 && !make_bf16(graph, name)) {
      return internal_error("layer '" + name + "' is gone");
    }
    if (layer.weight_bits > 8) continue;
    const Node* node = find_node(graph, name);
    if (node == nullptr) return internal_error("layer '" + name + "' is gone");
    const Tensor& weights = graph.initializers.at(node->inputs[1]);
    const std::size_t axis = output_channel_axis(*node);
    auto quantized = quantize_weights(
        weights, axis, {layer.weight_bits, layer.granularity == "channel", layer.weight_range});
    if (!quantized.has_value()) return with_context("layer '" + name + "'", quantized.error());
    if (plan.bias_correction) {
      changes.try_emplace(name, WeightChange{weights, {}}).first->second.after = dequantize(*quantized, axis);
    }
    out[name] = {std::move(*quantized), layer.weight_bits, layer.activation_bits == 8};
  }
  return out;
}

/// A range for each value that an integer layer reads. Where layers that read the same value ask for
/// different ranges, the first in the model's order is heard: there is one pair a value.
Result<std::map<std::string, ActivationRange>> choose_ranges(const ResolvedPlan& plan, const Graph& graph,
                                                             Calibration& calibration) {
  std::map<std::string, const LayerPlan*> wanted;
  std::vector<std::string> values;
  for (const auto& [name, layer] : plan.layers) {
    if (!layer.runs_as_integers()) continue;
    const std::string& value = find_node(graph, name)->inputs[0];
    if (wanted.try_emplace(value, &layer).second) values.push_back(value);
  }
  KERF_ASSIGN(auto statistics, calibration.statistics(graph, plan.variant(), values));
  std::map<std::string, ActivationRange> out;
  for (const auto& [value, layer] : wanted) {
    out[value] = choose_range(*statistics.at(value), layer->range, layer->symmetric);
  }
  return out;
}

/// `before`: the graph whose weights are neither pruned one by one nor rounded. Its inputs of a layer
/// are what the corrected layers before that one come back to on average.
Result<void> correct_biases(const ResolvedPlan& plan, const Graph& before,
                            const std::map<std::string, WeightChange>& changes, Calibration& calibration,
                            Graph& graph) {
  std::vector<std::string> values;
  for (const auto& [name, change] : changes) values.push_back(find_node(before, name)->inputs[0]);
  KERF_ASSIGN(auto statistics, calibration.statistics(before, plan.channel_variant(), values));
  for (const auto& [name, change] : changes) {
    const Node& node = *find_node(before, name);
    const auto error =
        mean_output_error(before, node, change.before, change.after, *statistics.at(node.inputs[0]));
    // A layer that can't take a bias keeps its error: the rest is corrected all the same.
    if (error) (void)correct_bias(graph, name, *error);
  }
  return {};
}

std::string executes_as(const LayerPlan& layer) {
  if (layer.runs_as_integers()) return "s8";
  if (layer.weight_bits == 16) return "bf16";
  if (layer.weight_bits <= 8) return "f32 (" + std::to_string(layer.weight_bits) + "-bit weights)";
  return "f32";
}

void report(const PreparedModel& model, const ResolvedPlan& plan, CompressedModel& out) {
  for (std::size_t i = 0; i < plan.layers.size(); ++i) {
    const auto& [name, layer] = plan.layers[i];
    const Node* node = find_node(out.graph, name);
    if (node == nullptr) continue;
    const Tensor* weights = out.graph.constant(weights_of(out.graph, *node));
    if (weights == nullptr) continue;
    LayerReport entry;
    entry.name = name;
    entry.weight_bits = layer.weight_bits;
    entry.activation_bits = layer.activation_bits;
    entry.sparsity = zero_share(*weights);
    const std::int64_t channels = output_channels(*node, model.info.layers[i].weight_shape);
    const std::int64_t kept = output_channels(*node, weights->shape());
    if (channels > 0) entry.channel_share_kept = static_cast<double>(kept) / static_cast<double>(channels);
    entry.weight_bits_total = weights->elements() * layer.weight_bits;
    entry.executes_as = executes_as(layer);
    out.layers.push_back(std::move(entry));
    out.macs += layer_macs(out.graph, *node);
  }
  out.storage_bytes = storage_size(out.graph);
}

}  // namespace

bool needs_calibration(const PreparedModel& model, const CompressionPlan& plan) {
  const auto resolved = resolve_plan(model, plan);
  return resolved.has_value() && (resolved->needs_ranges() || resolved->corrects_biases());
}

Result<CompressedModel> compress(const PreparedModel& model, const CompressionPlan& plan,
                                 Calibration* calibration) {
  CompressedModel out;
  Phases phases(out.phase_ms);
  KERF_ASSIGN(const ResolvedPlan resolved, resolve_plan(model, plan));
  if (calibration == nullptr && resolved.needs_ranges()) {
    return invalid_argument("a plan with 8-bit activations needs --calibration");
  }
  if (calibration == nullptr && resolved.corrects_biases()) {
    return invalid_argument("plan.global.recovery: \"bias_correction\" needs --calibration");
  }

  std::vector<bool> keep = choose_channels(model.graph, model.channels, resolved.channels);
  if (resolved.global_channels) {
    choose_channels_globally(model.graph, model.channels, *resolved.global_channels, resolved.channels, keep);
  }
  KERF_ASSIGN(const Graph cut, remove_channels(model.graph, model.channels, keep));
  Graph pruned = cut;
  std::map<std::string, WeightChange> changes;
  KERF_TRY(prune_single_weights(resolved, pruned, changes));
  phases.end("prune");

  Graph rounded = pruned;
  KERF_ASSIGN(auto layers, round_weights(resolved, rounded, changes));
  phases.end("weights");

  std::map<std::string, ActivationRange> ranges;
  if (resolved.needs_ranges()) {
    KERF_ASSIGN(ranges, choose_ranges(resolved, pruned, *calibration));
  }
  phases.end("calibration");

  KERF_ASSIGN(out.graph, insert_qdq(rounded, layers, ranges));
  phases.end("qdq");

  if (resolved.corrects_biases()) {
    KERF_TRY(correct_biases(resolved, cut, changes, *calibration, out.graph));
    phases.end("recovery");
    out.recovery_seconds = out.phase_ms["recovery"] / 1000;
  }
  report(model, resolved, out);
  phases.end("size");
  return out;
}

}  // namespace kerf::compress
