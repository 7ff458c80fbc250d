#include "workers/compress/compress.h"

#include <algorithm>
#include <bit>
#include <chrono>
#include <optional>
#include <set>

#include "workers/compress/activation_ranges.h"
#include "workers/compress/bias_correction.h"
#include "workers/compress/export.h"
#include "workers/compress/insert_qdq.h"
#include "workers/compress/layer.h"
#include "workers/compress/packed/packed_file.h"
#include "workers/compress/plan_resolution.h"
#include "workers/compress/prune_channels.h"
#include "workers/compress/prune_unstructured.h"
#include "workers/compress/quantize_weights.h"
#include "workers/compress/represent_weights.h"
#include "workers/compress/sign_activations.h"

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

Result<std::map<std::string, QuantizedLayer>> round_weights(const ResolvedPlan& plan, Graph& graph,
                                                            WeightChanges& changes) {
  std::map<std::string, QuantizedLayer> out;
  for (const auto& [name, layer] : plan.layers) {
    if (layer.weight_bits == 32 && layer.codebook.entries == 0) continue;
    const Node* node = find_node(graph, name);
    if (node == nullptr) return internal_error("layer '" + name + "' is gone");
    const Tensor before = graph.initializers.at(node->inputs[1]);
    KERF_ASSIGN(auto quantized, represent_weights(name, layer, graph));
    if (plan.bias_correction && (layer.weight_bits <= 8 || layer.codebook.entries > 0)) {
      const Tensor after =
          quantized ? dequantize(quantized->weights, output_channel_axis(*node))
                    : graph.initializers.at(node->inputs[1]);
      changes[name] = {before, after};
    }
    if (quantized) out[name] = std::move(*quantized);
  }
  return out;
}

/// What the inputs of integer layers are rounded by.
struct InputRanges {
  std::map<std::string, ActivationRange> ranges;
  std::map<std::string, float> sign_scales;
};

/// A range for each value that an integer layer reads. Where layers that read the same value ask
/// for different ranges, the first in the model's order is heard: there is one pair a value.
Result<InputRanges> choose_ranges(const ResolvedPlan& plan, const Graph& graph,
                                  Calibration& calibration) {
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
  KERF_ASSIGN(auto statistics, calibration.statistics(graph, plan.variant(), values));
  InputRanges out;
  for (const auto& [value, layer] : wanted) {
    out.ranges[value] = choose_range(*statistics.at(value), layer->range, layer->symmetric);
  }
  for (const std::string& value : signs) out.sign_scales[value] = sign_scale(*statistics.at(value));
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

/// Bits of an index into that many values.
int index_bits(std::int64_t values) {
  return std::max(1, static_cast<int>(std::bit_width(static_cast<std::uint64_t>(values - 1))));
}

/// The DequantizeLinear that produces a value; null where another op does.
const Node* dequantizer(const Graph& graph, const std::string& value) {
  const Node* source = graph.producer(value);
  return source != nullptr && source->op == "DequantizeLinear" ? source : nullptr;
}

/// Whether an integer layer's input is signs: integers that are read with another scale than they
/// were made with.
bool reads_signs(const Graph& graph, const Node& node) {
  const Node* dequantize = dequantizer(graph, node.inputs[0]);
  const Node* quantize = dequantize == nullptr ? nullptr : graph.producer(dequantize->inputs[0]);
  return quantize != nullptr && quantize->op == "QuantizeLinear" &&
         quantize->inputs[1] != dequantize->inputs[1];
}

/// Bits and execution of a layer as its graph says, so that models that came quantized are reported
/// as what they are.
void describe(const Graph& graph, const Node& node, const Tensor& weights, LayerReport& entry) {
  const Node* integers = dequantizer(graph, node.inputs[1]);
  const bool bf16 = node.text("kerf_precision", "") == "bf16";
  const std::string real = bf16 ? "bf16" : "f32";
  const auto shared = node.integer("kerf_shared_values", 0);
  entry.activation_bits = bf16 ? 16 : 32;
  if (integers == nullptr) {
    entry.weight_bits = entry.activation_bits;
    entry.executes_as = real;
    if (shared > 0) {
      entry.weight_bits = index_bits(shared);
      entry.executes_as += " (" + std::to_string(shared) + " shared values)";
    }
    return;
  }
  const bool four = weights.dtype() == graph::DType::kS4 || weights.dtype() == graph::DType::kU4;
  entry.weight_bits = static_cast<int>(integers->integer("kerf_bits", four ? 4 : 8));
  if (shared > 0) entry.weight_bits = std::min(entry.weight_bits, index_bits(shared));
  const bool runs_as_integers = dequantizer(graph, node.inputs[0]) != nullptr;
  if (runs_as_integers) entry.activation_bits = reads_signs(graph, node) ? 1 : 8;
  entry.executes_as = runs_as_integers
                          ? "s8"
                          : real + " (" + std::to_string(entry.weight_bits) + "-bit weights)";
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
  KERF_ASSIGN(auto layers, round_weights(resolved, rounded, rounding));
  phases.end("weights");

  InputRanges ranges;
  if (resolved.needs_ranges()) {
    KERF_ASSIGN(ranges, choose_ranges(resolved, pruned, *calibration));
  }
  phases.end("calibration");

  KERF_ASSIGN(out.graph, insert_qdq(rounded, layers, ranges.ranges, ranges.sign_scales));
  phases.end("qdq");

  if (resolved.corrects_biases()) {
    KERF_TRY(correct_biases(model, keep, rounding, *calibration, out.graph));
    phases.end("recovery");
    out.recovery_seconds = out.phase_ms["recovery"] / 1000;
  }
  report(model, resolved, out);
  // The hash of the source has a place of its own in the file, whatever it is.
  KERF_ASSIGN(const Graph standard, to_standard_onnx(out, export_metadata(plan, {})));
  out.storage_bytes = packed_size(standard);
  phases.end("size");
  return out;
}

}  // namespace kerf::compress
