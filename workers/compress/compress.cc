#include "workers/compress/compress.h"

#include <chrono>
#include <optional>

#include "workers/compress/activation_ranges.h"
#include "workers/compress/bf16.h"
#include "workers/compress/bias_correction.h"
#include "workers/compress/insert_qdq.h"
#include "workers/compress/layer.h"
#include "workers/compress/plan_resolution.h"
#include "workers/compress/prune_channels.h"
#include "workers/compress/prune_unstructured.h"
#include "workers/compress/quantize_weights.h"
#include "workers/compress/round_layer.h"
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

/// How the weights of layers changed in one step, in the shape that they have now.
struct WeightChange {
  std::optional<Tensor> before;  ///< nullopt: the model's own, with all their channels.
  Tensor after;
};
using WeightChanges = std::map<std::string, WeightChange>;

/// Zeroes single weights of the layers that the plan names.
Result<void> prune_single_weights(const ResolvedPlan& plan, Graph& graph) {
  for (const auto& [name, layer] : plan.layers) {
    if (!plan.prunes_single_weights(layer)) continue;
    Node* node = find_node(graph, name);
    if (node == nullptr) return internal_error("layer '" + name + "' is gone");
    const Tensor before = graph.initializers.at(node->inputs[1]);
    const NOfM pattern = n_of_m(layer.prune.structure);
    const std::size_t input_axis = output_channel_axis(*node) == 0 ? 1 : 0;
    Tensor after = pattern.m == 0 ? prune_by_magnitude(before, layer.prune.ratio)
                                  : prune_n_of_m(before, input_axis, pattern.n, pattern.m);
    set_constant(graph, *node, 1, std::move(after));
  }
  return {};
}

/// Weights become integers or bf16, each layer by what the f32 graph gives it to read.
Result<std::map<std::string, QuantizedLayer>> round_weights(const ResolvedPlan& plan, Graph& graph,
                                                            Calibration* calibration,
                                                            WeightChanges& changes) {
  std::map<std::string, QuantizedLayer> out;
  std::vector<std::string> adaptive;
  const auto round = [&](const std::string& name, const SecondMoments* moments) -> Result<void> {
    const Node& node = *find_node(graph, name);
    const bool bias_follows = plan.bias_correction && can_take_bias(graph, node);
    KERF_ASSIGN(QuantizedLayer layer,
                round_layer(graph, node, plan.at(name), moments, bias_follows));
    if (plan.bias_correction) {
      changes[name] = {graph.initializers.at(node.inputs[1]),
                       dequantize(layer.weights, output_channel_axis(node))};
    }
    out[name] = std::move(layer);
    return {};
  };
  for (const auto& [name, layer] : plan.layers) {
    if (layer.weight_bits == 16 && !make_bf16(graph, name)) {
      return internal_error("layer '" + name + "' is gone");
    }
    if (layer.weight_bits > 8) continue;
    if (find_node(graph, name) == nullptr) return internal_error("layer '" + name + "' is gone");
    if (rounds_adaptively(layer)) {
      adaptive.push_back(name);
    } else {
      KERF_TRY(round(name, nullptr));
    }
  }
  for (const std::vector<std::string>& part : moment_parts(graph, adaptive)) {
    KERF_ASSIGN(const auto moments, calibration->second_moments(graph, plan.variant(), part));
    for (const std::string& name : part) {
      const auto found = moments.find(name);
      KERF_TRY(round(name, found == moments.end() ? nullptr : found->second.get()));
    }
  }
  return out;
}

/// A range for each value that an integer layer reads. Where layers that read the same value ask
/// for different ranges, the first in the model's order is heard: there is one pair a value.
Result<std::map<std::string, ActivationRange>> choose_ranges(const ResolvedPlan& plan,
                                                             const Graph& graph,
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

/// The layers whose weights aren't those of the model any more, for correct_biases.
WeightChanges pruned_layers(const PreparedModel& model, const ResolvedPlan& plan,
                            const Graph& pruned) {
  WeightChanges out;
  for (const auto& [name, layer] : plan.layers) {
    const Node* node = find_node(pruned, name);
    const Tensor* after = node == nullptr ? nullptr : pruned.constant(node->inputs[1]);
    const Node* original = find_node(model.graph, name);
    const Tensor* before = model.graph.constant(original->inputs[1]);
    if (after == nullptr || before == nullptr) continue;
    if (plan.prunes_single_weights(layer) || after->shape() != before->shape()) {
      out[name] = {std::nullopt, *after};
    }
  }
  return out;
}

/// Takes what the changes add to the mean of each output channel off the biases of `graph`.
Result<void> correct_biases(const PreparedModel& model, const std::vector<bool>& keep,
                            const WeightChanges& changes, Calibration& calibration, Graph& graph) {
  std::vector<std::string> values;
  for (const auto& [name, change] : changes) {
    values.push_back(find_node(model.graph, name)->inputs[0]);
  }
  KERF_ASSIGN(auto statistics, calibration.statistics(model.graph, "", values));
  for (const auto& [name, change] : changes) {
    const Node& node = *find_node(model.graph, name);
    const Tensor& whole = model.graph.initializers.at(node.inputs[1]);
    const std::size_t axis = output_channel_axis(node);
    std::map<std::size_t, std::vector<bool>> kept;
    for (const ConstantAxis& constant : model.channels.constants) {
      if (constant.node != name || constant.input != 1) continue;
      for (const std::int32_t channel : constant.channels) {
        kept[constant.axis].push_back(keep[static_cast<std::size_t>(channel)]);
      }
    }
    const auto error = mean_output_error(
        model.graph, node,
        change.before ? spread_weights(whole, *change.before, axis, kept) : whole,
        spread_weights(whole, change.after, axis, kept), *statistics.at(node.inputs[0]));
    if (!error) continue;
    std::vector<double> of_kept;
    const auto own = model.channels.outputs.find(name);
    for (std::size_t i = 0; i < error->size(); ++i) {
      const bool there =
          own == model.channels.outputs.end() || keep[static_cast<std::size_t>(own->second[i])];
      if (there) of_kept.push_back((*error)[i]);
    }
    // A layer that can't take a bias keeps its error: the rest is corrected all the same.
    (void)correct_bias(graph, name, of_kept);
  }
  return {};
}

/// The DequantizeLinear that produces a value; null where another op does.
const Node* dequantizer(const Graph& graph, const std::string& value) {
  const Node* source = graph.producer(value);
  return source != nullptr && source->op == "DequantizeLinear" ? source : nullptr;
}

/// Bits and execution of a layer as its graph says, so that models that came quantized are reported
/// as what they are.
void describe(const Graph& graph, const Node& node, const Tensor& weights, LayerReport& entry) {
  const Node* integers = dequantizer(graph, node.inputs[1]);
  if (integers == nullptr) {
    const bool bf16 = node.text("kerf_precision", "") == "bf16";
    entry.weight_bits = bf16 ? 16 : 32;
    entry.activation_bits = entry.weight_bits;
    entry.executes_as = bf16 ? "bf16" : "f32";
    return;
  }
  const bool four = weights.dtype() == graph::DType::kS4 || weights.dtype() == graph::DType::kU4;
  entry.weight_bits = static_cast<int>(integers->integer("kerf_bits", four ? 4 : 8));
  const bool runs_as_integers = dequantizer(graph, node.inputs[0]) != nullptr;
  entry.activation_bits = runs_as_integers ? 8 : 32;
  entry.executes_as =
      runs_as_integers ? "s8" : "f32 (" + std::to_string(entry.weight_bits) + "-bit weights)";
}

void report(const PreparedModel& model, const ResolvedPlan& plan, CompressedModel& out) {
  for (std::size_t i = 0; i < plan.layers.size(); ++i) {
    const std::string& name = plan.layers[i].first;
    const Node* node = find_node(out.graph, name);
    if (node == nullptr) continue;
    const Tensor* weights = out.graph.constant(weights_of(out.graph, *node));
    if (weights == nullptr) continue;
    LayerReport entry;
    entry.name = name;
    describe(out.graph, *node, *weights, entry);
    entry.sparsity = zero_share(*weights);
    const std::int64_t channels = output_channels(*node, model.info.layers[i].weight_shape);
    const std::int64_t kept = output_channels(*node, weights->shape());
    if (channels > 0)
      entry.channel_share_kept = static_cast<double>(kept) / static_cast<double>(channels);
    entry.weight_bits_total = weights->elements() * entry.weight_bits;
    out.layers.push_back(std::move(entry));
    out.macs += layer_macs(out.graph, *node);
  }
  out.storage_bytes = storage_size(out.graph);
}

}  // namespace

bool needs_calibration(const PreparedModel& model, const CompressionPlan& plan) {
  const auto resolved = resolve_plan(model, plan);
  return resolved.has_value() && resolved->needs_calibration();
}

Result<CompressedModel> compress(const PreparedModel& model, const CompressionPlan& plan,
                                 Calibration* calibration) {
  CompressedModel out;
  Phases phases(out.phase_ms);
  KERF_ASSIGN(const ResolvedPlan resolved, resolve_plan(model, plan));
  if (calibration == nullptr && resolved.needs_ranges()) {
    return invalid_argument("a plan with 8-bit activations needs --calibration");
  }
  if (calibration == nullptr && resolved.rounds_adaptively()) {
    return invalid_argument("plan: rounding \"adaptive\" needs --calibration");
  }
  if (calibration == nullptr && resolved.corrects_biases()) {
    return invalid_argument("plan.global.recovery: \"bias_correction\" needs --calibration");
  }

  std::vector<bool> keep = choose_channels(model.graph, model.channels, resolved.channels);
  if (resolved.global_channels) {
    choose_channels_globally(model.graph, model.channels, *resolved.global_channels,
                             resolved.channels, keep);
  }
  KERF_ASSIGN(Graph pruned, remove_channels(model.graph, model.channels, keep));
  KERF_TRY(prune_single_weights(resolved, pruned));
  phases.end("prune");

  // What pruning takes away is put back into the biases first, so that the ranges are taken of a
  // model that is as near to the f32 one as it will be.
  if (resolved.corrects_biases() && resolved.prunes()) {
    KERF_TRY(
        correct_biases(model, keep, pruned_layers(model, resolved, pruned), *calibration, pruned));
    phases.end("recovery");
  }

  Graph rounded = pruned;
  WeightChanges rounding;
  KERF_ASSIGN(auto layers, round_weights(resolved, rounded, calibration, rounding));
  phases.end("weights");

  std::map<std::string, ActivationRange> ranges;
  if (resolved.needs_ranges()) {
    KERF_ASSIGN(ranges, choose_ranges(resolved, pruned, *calibration));
  }
  phases.end("calibration");

  KERF_ASSIGN(out.graph, insert_qdq(rounded, layers, ranges));
  phases.end("qdq");

  if (resolved.corrects_biases()) {
    KERF_TRY(correct_biases(model, keep, rounding, *calibration, out.graph));
    phases.end("recovery");
    out.recovery_seconds = out.phase_ms["recovery"] / 1000;
  }
  report(model, resolved, out);
  phases.end("size");
  return out;
}

}  // namespace kerf::compress
