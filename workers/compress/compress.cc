#include "workers/compress/compress.h"

#include <algorithm>
#include <bit>
#include <chrono>
#include <optional>
#include <set>

#include "workers/compress/activation_scores.h"
#include "workers/compress/bias_correction.h"
#include "workers/compress/distill_student.h"
#include "workers/compress/equalize.h"
#include "workers/compress/export.h"
#include "workers/compress/input_ranges.h"
#include "workers/compress/insert_qdq.h"
#include "workers/compress/integer_bias.h"
#include "workers/compress/layer.h"
#include "workers/compress/low_rank.h"
#include "workers/compress/packed/packed_file.h"
#include "workers/compress/plan_resolution.h"
#include "workers/compress/prune_channels.h"
#include "workers/compress/prune_unstructured.h"
#include "workers/compress/quantize_weights.h"
#include "workers/compress/recover.h"
#include "workers/compress/represent_weights.h"
#include "workers/compress/round_layer.h"

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

/// Marks the channels that go, by the scores that the plan wants.
Result<std::vector<bool>> choose(const PreparedModel& model, const Graph& base,
                                 const ResolvedPlan& plan, Calibration* calibration) {
  std::map<std::string, std::vector<double>> scores;
  for (const auto& [group, pruning] : plan.channels) {
    if (scores.contains(pruning.score)) continue;
    if (pruning.score == "l1" || pruning.score == "l2") {
      scores[pruning.score] = channel_scores(base, model.channels, pruning.score);
    } else {
      KERF_ASSIGN(scores[pruning.score], activation_scores(model, base, plan.base_variant(),
                                                           pruning.score, calibration));
    }
  }
  std::vector<bool> keep = choose_channels(model.channels, plan.channels, scores);
  if (plan.global_channels) {
    choose_channels_globally(base, model.channels, *plan.global_channels, plan.channels, keep);
  }
  return keep;
}

/// Replaces layers by factors; what became of each part, by its name.
Result<std::map<std::string, SplitLayer>> factorize_layers(ResolvedPlan& plan, Graph& graph,
                                                           Calibration* calibration) {
  std::map<std::string, SplitLayer> out;
  std::vector<std::string> wanted;
  std::vector<std::string> with_data;
  for (const auto& [name, layer] : plan.layers) {
    const Node* node = find_node(graph, name);
    if (!plan.factorizes(layer) || node == nullptr) continue;
    // Where channels went, what is left of a layer may be too small to have factors.
    const auto forms = rank_forms(graph, *node);
    if (std::find(forms.begin(), forms.end(), layer.rank.form) == forms.end()) continue;
    wanted.push_back(name);
    if (layer.rank.data_aware || plan.bias_correction) with_data.push_back(name);
  }
  std::map<std::string, std::shared_ptr<const SecondMoments>> moments;
  if (!with_data.empty()) {
    KERF_ASSIGN(moments, calibration->second_moments(graph, plan.channel_variant(), with_data));
  }
  for (const std::string& name : wanted) {
    const auto known = moments.find(name);
    KERF_ASSIGN(const SplitLayer split,
                split_layer(graph, name, plan.at(name).rank,
                            known == moments.end() ? nullptr : known->second.get(),
                            !plan.named_ranks.contains(name)));
    if (split.parts.empty()) continue;
    plan.split(name, split.parts);
    for (const std::string& part : split.parts) out[part] = split;
  }
  return out;
}

/// Zeroes single weights of the layers that the plan names; how each changed goes to `changes`.
Result<void> prune_single_weights(const ResolvedPlan& plan, Graph& graph, Calibration* calibration,
                                  WeightChanges& changes) {
  const Graph before_all = graph;
  std::vector<std::string> values;  // one run for all layers
  for (const auto& [name, layer] : plan.layers) {
    const Node* node = find_node(graph, name);
    const bool data = plan.prunes_single_weights(layer) && score_needs_data(layer.prune.score);
    if (data && node != nullptr) values.push_back(node->inputs[0]);
  }
  if (!values.empty()) {
    KERF_TRY(calibration->element_moments(graph, plan.structure_variant(), values));
  }
  for (const auto& [name, layer] : plan.layers) {
    if (!plan.prunes_single_weights(layer)) continue;
    Node* node = find_node(graph, name);
    if (node == nullptr) return internal_error("layer '" + name + "' is gone");
    const Tensor before = graph.initializers.at(node->inputs[1]);
    KERF_ASSIGN(const std::vector<double> importance,
                weight_scores(before_all, *find_node(before_all, name), plan.structure_variant(),
                              layer.prune.score, calibration));
    const NOfM pattern = n_of_m(layer.prune.structure);
    const std::size_t input_axis = output_channel_axis(*node) == 0 ? 1 : 0;
    Tensor after = pattern.m > 0
                       ? prune_n_of_m(before, importance, input_axis, pattern.n, pattern.m)
                   : layer.prune.score == "wanda"
                       ? prune_least_by_row(*node, before, importance, layer.prune.ratio)
                       : prune_least(before, importance, layer.prune.ratio);
    changes[name] = {before, after};
    set_constant(graph, *node, 1, std::move(after));
  }
  return {};
}

/// Weights get the forms that the plan names, each layer by what the f32 graph gives it to read.
Result<std::map<std::string, QuantizedLayer>> round_weights(const ResolvedPlan& plan, Graph& graph,
                                                            Calibration* calibration,
                                                            WeightChanges& changes) {
  std::map<std::string, QuantizedLayer> out;
  std::vector<std::string> adaptive;
  const Graph before_all = graph;
  const auto round = [&](const std::string& name, const SecondMoments* moments) -> Result<void> {
    const Node& before = *find_node(before_all, name);
    const LayerPlan& layer = plan.at(name);
    const bool bias_follows = plan.bias_correction && can_take_bias(before_all, before);
    KERF_ASSIGN(auto quantized, round_layer(graph, name, layer, moments, bias_follows));
    if (plan.bias_correction && (layer.weight_bits <= 8 || layer.codebook.entries > 0)) {
      changes[name] = {before_all.initializers.at(before.inputs[1]),
                       weights_as_read(graph, name, quantized)};
    }
    if (quantized) out[name] = std::move(*quantized);
    return {};
  };
  for (const auto& [name, layer] : plan.layers) {
    if (!changes_weights(layer)) continue;
    if (find_node(graph, name) == nullptr) return internal_error("layer '" + name + "' is gone");
    if (rounds_adaptively(layer)) {
      adaptive.push_back(name);
    } else {
      KERF_TRY(round(name, nullptr));
    }
  }
  for (const std::vector<std::string>& part : moment_parts(before_all, adaptive)) {
    KERF_ASSIGN(const auto moments, calibration->second_moments(before_all, plan.variant(), part));
    for (const std::string& name : part) {
      const auto found = moments.find(name);
      KERF_TRY(round(name, found == moments.end() ? nullptr : found->second.get()));
    }
  }
  return out;
}

/// Takes what pruning adds to the mean of each output channel off the biases of `graph`: the inputs
/// are those of the base graph, with all their channels.
Result<void> correct_pruned(const PreparedModel& model, const Graph& base, const std::string& variant,
                            const std::vector<bool>& keep, const WeightChanges& changes,
                            Calibration& calibration, Graph& graph) {
  std::vector<std::string> values;
  for (const auto& [name, change] : changes) values.push_back(find_node(base, name)->inputs[0]);
  KERF_ASSIGN(auto statistics, calibration.statistics(base, variant, values));
  for (const auto& [name, change] : changes) {
    const Node& node = *find_node(base, name);
    const Tensor& whole = base.initializers.at(node.inputs[1]);
    const std::size_t axis = output_channel_axis(node);
    std::map<std::size_t, std::vector<bool>> kept;
    for (const ConstantAxis& constant : model.channels.constants) {
      if (constant.node != name || constant.input != 1) continue;
      for (const std::int32_t channel : constant.channels) {
        kept[constant.axis].push_back(keep[static_cast<std::size_t>(channel)]);
      }
    }
    const auto error = mean_output_error(base, node, whole,
                                         spread_weights(whole, change.after, axis, kept),
                                         *statistics.at(node.inputs[0]));
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

/// The same for layers that have kept their shapes: the inputs are those of `before`, a graph of
/// the same layers.
Result<void> correct_changed(const Graph& before, const std::string& variant,
                             const WeightChanges& changes, Calibration& calibration, Graph& graph) {
  std::vector<std::string> values;
  for (const auto& [name, change] : changes) values.push_back(find_node(before, name)->inputs[0]);
  KERF_ASSIGN(auto statistics, calibration.statistics(before, variant, values));
  for (const auto& [name, change] : changes) {
    const Node& node = *find_node(before, name);
    const auto error = mean_output_error(before, node, *change.before, change.after,
                                         *statistics.at(node.inputs[0]));
    if (error) (void)correct_bias(graph, name, *error);
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

void report(const PreparedModel& model, const ResolvedPlan& plan,
            const std::map<std::string, SplitLayer>& splits, CompressedModel& out) {
  for (const auto& [name, layer] : plan.layers) {
    const Node* node = find_node(out.graph, name);
    if (node == nullptr) continue;
    const Tensor* weights = out.graph.constant(weights_of(out.graph, *node));
    if (weights == nullptr) continue;
    LayerReport entry;
    entry.name = name;
    describe(out.graph, *node, *weights, entry);
    entry.sparsity = zero_share(*weights);
    const auto split = splits.find(name);
    const std::string& original = split == splits.end() ? name : split->second.name;
    const auto info = std::find_if(model.info.layers.begin(), model.info.layers.end(),
                                   [&](const LayerInfo& known) { return known.name == original; });
    const bool whole = split == splits.end() || split->second.parts.back() == name;
    const std::int64_t channels =
        info == model.info.layers.end() ? 0 : output_channels(*node, info->weight_shape);
    const std::int64_t kept = output_channels(*node, weights->shape());
    if (channels > 0 && whole)
      entry.channel_share_kept = static_cast<double>(kept) / static_cast<double>(channels);
    entry.weight_bits_total = weights->elements() * entry.weight_bits;
    out.layers.push_back(std::move(entry));
    out.macs += layer_macs(out.graph, *node);
  }
}

}  // namespace

bool needs_calibration(const PreparedModel& model, const CompressionPlan& plan) {
  const auto resolved = resolve_plan(model, plan);
  return resolved.has_value() && !resolved->why_calibration().empty();
}

Result<CompressedModel> compress(const PreparedModel& model, const CompressionPlan& plan,
                                 Calibration* calibration, const Watch& watch, Sizing sizing) {
  CompressedModel out;
  Phases phases(out.phase_ms);
  KERF_ASSIGN(ResolvedPlan resolved, resolve_plan(model, plan));
  if (const std::string why = resolved.why_calibration(); calibration == nullptr && !why.empty()) {
    return needs_calibration_data(why);
  }

  const Graph base = resolved.equalize ? equalize(model.graph) : model.graph;
  KERF_ASSIGN(const std::vector<bool> keep, choose(model, base, resolved, calibration));
  KERF_ASSIGN(Graph pruned, remove_channels(base, model.channels, keep));
  KERF_ASSIGN(const auto splits, factorize_layers(resolved, pruned, calibration));
  const Graph structured = pruned;
  WeightChanges zeroed;
  KERF_TRY(prune_single_weights(resolved, pruned, calibration, zeroed));
  phases.end("prune");

  // What pruning takes away is put back into the biases first, so that the ranges are taken of a
  // model that is as near to the f32 one as it will be. Reconstruction fits them with the weights.
  const bool fits = resolved.reconstructs();
  if (resolved.corrects_biases() && resolved.prunes() && !fits) {
    KERF_TRY(correct_pruned(model, base, resolved.base_variant(), keep,
                            pruned_layers(base, resolved, pruned), *calibration, pruned));
    std::erase_if(zeroed, [&](const auto& change) { return !splits.contains(change.first); });
    KERF_TRY(correct_changed(structured, resolved.structure_variant(), zeroed, *calibration, pruned));
    phases.end("recovery");
  }

  std::map<std::string, QuantizedLayer> layers;
  Graph rounded;
  WeightChanges rounding;
  if (fits) {
    KERF_ASSIGN(layers,
                fit_and_round(base,
                              layers_to_recover(model, base, resolved, pruned, keep, splits),
                              resolved, *calibration, pruned, rounded));
    phases.end("recovery");
  }
  const bool reestimates = resolved.reestimates();
  if (reestimates) {
    if (!fits) {
      rounded = pruned;
      KERF_ASSIGN(layers, round_weights(resolved, rounded, calibration, rounding));
      rounding.clear();
      phases.end("weights");
    }
    KERF_TRY(reestimate(base, layers_to_recover(model, base, resolved, pruned, keep, splits), resolved,
                        *calibration, pruned, rounded, layers));
    phases.end("recovery");
  }
  InputRanges ranges;
  std::optional<Calibration> of_distilled;
  if (resolved.distills()) {
    if (resolved.corrects_biases() && !fits && !reestimates) {
      // Training starts from biases that make up for the rounding, and nothing is corrected after it.
      const Graph before = pruned;
      Graph start = pruned;
      KERF_TRY(round_weights(resolved, start, calibration, rounding));
      KERF_TRY(correct_changed(before, resolved.variant(), rounding, *calibration, pruned));
      rounding.clear();
    }
    KERF_TRY(distill_student(model, base, resolved, keep, *calibration, watch, pruned, ranges, out.warnings));
    // Its statistics are nobody else's: where the time ran out, the same plan gives other weights.
    of_distilled = calibration_of_distilled(model, *calibration);
    // Weights were trained to be good when each is rounded by itself.
    for (auto& [name, layer] : resolved.layers) layer.rounding = "nearest";
    phases.end("recovery");
  }
  Calibration* const of_rounding = of_distilled ? &*of_distilled : calibration;
  if ((!fits && !reestimates) || of_distilled) {
    rounded = pruned;
    KERF_ASSIGN(layers, round_weights(resolved, rounded, of_rounding, rounding));
  }
  phases.end("weights");

  if (resolved.needs_ranges() && !of_distilled) {
    KERF_ASSIGN(ranges, choose_ranges(resolved, pruned, resolved.variant(), *calibration));
  }
  phases.end("calibration");

  KERF_ASSIGN(out.graph, insert_qdq(rounded, layers, ranges.ranges, ranges.sign_scales));
  phases.end("qdq");

  if (resolved.corrects_biases() && !fits && !reestimates && !of_distilled) {
    KERF_TRY(correct_changed(pruned, resolved.variant(), rounding, *calibration, out.graph));
    phases.end("recovery");
  }
  settle_biases(out.graph);
  if (out.phase_ms.contains("recovery")) out.recovery_seconds = out.phase_ms["recovery"] / 1000;
  report(model, resolved, splits, out);
  if (sizing == Sizing::kPackedFile) {
    // The hash of the source has a place of its own in the file, whatever it is.
    KERF_ASSIGN(const Graph standard, to_standard_onnx(out, export_metadata(plan, {})));
    out.storage_bytes = packed_size(standard);
  }
  phases.end("size");
  return out;
}

}  // namespace kerf::compress
