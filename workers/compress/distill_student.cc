#include "workers/compress/distill_student.h"

#include <map>
#include <utility>

#include "workers/compress/distill.h"
#include "workers/compress/input_ranges.h"
#include "workers/compress/insert_qdq.h"
#include "workers/compress/layer.h"
#include "workers/compress/quantize_weights.h"
#include "workers/compress/represent_weights.h"

namespace kerf::compress {

using graph::Graph;
using graph::Node;
using graph::Tensor;

namespace {

/// The graph with the rounding of activations that it will run with, and weights as they are. What is
/// rounded by the range of each call stays f32: its range is always right.
Result<Graph> round_activations(const ResolvedPlan& plan, const Graph& graph,
                                const InputRanges& ranges) {
  std::map<std::string, QuantizedLayer> integer_layers;
  Graph represented = graph;
  for (const auto& [name, layer] : plan.layers) {
    if (layer.weight_bits > 16) continue;
    KERF_ASSIGN(auto quantized, represent_weights(name, layer, represented));
    if (quantized && (quantized->input == InputForm::kStatic || quantized->input == InputForm::kSign)) {
      integer_layers[name] = std::move(*quantized);
    }
  }
  KERF_ASSIGN(Graph out, insert_qdq(graph, integer_layers, ranges.ranges, ranges.sign_scales));
  for (const auto& [name, layer] : plan.layers) {
    Node* node = find_node(out, name);
    if (node == nullptr) return internal_error("layer '" + name + "' is gone");
    const std::string precision = find_node(represented, name)->text("kerf_precision", "");
    if (!precision.empty()) node->attributes["kerf_precision"] = precision;
    const std::string& weights = find_node(graph, name)->inputs[1];
    node->inputs[1] = weights;
    out.initializers[weights] = graph.initializers.at(weights);
  }
  out.cut_to_outputs();
  return out;
}

/// A layer's weights as they will be stored.
Result<Tensor> stored_weights(const std::string& name, const LayerPlan& layer, const Graph& graph,
                              const Tensor& weights) {
  Graph alone;
  alone.nodes.push_back(*find_node(graph, name));
  alone.initializers[alone.nodes[0].inputs[1]] = weights;
  KERF_ASSIGN(const auto quantized, represent_weights(name, layer, alone));
  return quantized ? dequantize(quantized->weights, output_channel_axis(alone.nodes[0]))
                   : alone.initializers.at(alone.nodes[0].inputs[1]);
}

}  // namespace

Calibration calibration_of_distilled(const PreparedModel& model, const Calibration& calibration) {
  Calibration out(model, calibration.inputs(), calibration.threads());
  out.see_variants_on(Calibration::kModelSamples);
  return out;
}

Result<void> distill_student(const PreparedModel& model, const Graph& base, const ResolvedPlan& plan,
                             const std::vector<bool>& keep, const Calibration& calibration,
                             const Watch& watch, Graph& pruned, InputRanges& trained_with,
                             std::vector<std::string>& notes) {
  DistillTask task;
  task.teacher = &base;
  task.student = pruned;
  for (const auto& [layer, channels] : model.channels.outputs) {
    auto& kept = task.kept_channels[find_node(base, layer)->outputs[0]];
    for (std::size_t i = 0; i < channels.size(); ++i) {
      if (keep[static_cast<std::size_t>(channels[i])]) kept.push_back(static_cast<std::int64_t>(i));
    }
  }
  task.inputs = calibration.inputs();
  task.labels = calibration.labels();
  task.spec = *plan.distill;
  task.seed = static_cast<std::uint64_t>(plan.distill->seed);
  task.threads = calibration.threads();
  task.watch = watch;
  std::map<std::string, LayerPlan> layers(plan.layers.begin(), plan.layers.end());
  bool rounds_activations = false;
  for (const auto& [name, layer] : layers) {
    if (layer.weight_bits <= 16 || layer.codebook.entries > 0) task.rounded_layers.insert(name);
    if (plan.prunes_single_weights(layer)) task.masked_layers.insert(name);
    rounds_activations = rounds_activations || layer.activation_bits <= 16;
  }
  task.rounded = [&](const std::string& name, const Tensor& weights) {
    return stored_weights(name, layers.at(name), pruned, weights);
  };
  std::vector<InputRanges> made;
  if (rounds_activations) {
    task.with_rounded_activations = [&](const Graph& student) -> Result<Graph> {
      Calibration fresh = calibration_of_distilled(model, calibration);
      KERF_ASSIGN(const auto ranges, choose_ranges(plan, student, kDistilled, fresh));
      made.push_back(ranges);
      return round_activations(plan, student, ranges);
    };
  }
  KERF_ASSIGN(Distilled distilled, distill(std::move(task)));
  pruned = std::move(distilled.graph);
  if (!made.empty()) trained_with = std::move(made[distilled.rounding]);
  notes.insert(notes.end(), distilled.notes.begin(), distilled.notes.end());
  return {};
}

}  // namespace kerf::compress
