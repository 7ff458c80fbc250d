#include "workers/compress/model.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "workers/compress/activation_scores.h"
#include "workers/compress/low_rank.h"
#include "workers/engine/passes.h"

namespace kerf::compress {
namespace {

using graph::DType;
using graph::Graph;
using graph::Node;
using graph::Shape;
using graph::Tensor;

/// Shape of one sample: a free batch counts as 1.
Shape sample_shape(const Graph& graph, const std::string& value) {
  Shape shape;
  if (const graph::ValueInfo* info = graph.value(value)) shape = info->shape;
  if (const Tensor* tensor = graph.constant(value)) shape = tensor->shape();
  if (!shape.empty() && shape[0] < 0) shape[0] = 1;
  return shape;
}

/// alpha and beta of a Gemm go into its constants, so that a scale has one place to be.
void absorb_gemm_factors(Graph& graph) {
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    Node& node = graph.nodes[i];
    if (node.op != "Gemm") continue;
    const auto scale_input = [&](std::size_t input, const char* attribute) {
      const float factor = node.real(attribute, 1.0F);
      const bool present = node.has_input(input);
      const Tensor* constant = present ? graph.constant(node.inputs[input]) : nullptr;
      if (factor == 1.0F || (present && (constant == nullptr || constant->dtype() != DType::kF32)))
        return;
      if (present) {
        Tensor scaled = *constant;
        for (float& value : scaled.mutable_as<float>()) value *= factor;
        set_constant(graph, node, input, std::move(scaled));
      }
      node.attributes.erase(attribute);
    };
    scale_input(1, "alpha");
    scale_input(2, "beta");
  }
}

Result<void> check_finite(const std::string& layer, const std::string& what, const Tensor& tensor) {
  if (tensor.dtype() != DType::kF32) return {};
  const auto values = tensor.as<float>();
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!std::isfinite(values[i])) {
      return invalid_argument("layer '" + layer + "': element " + std::to_string(i) + " of its " +
                              what + " is not finite");
    }
  }
  return {};
}

/// By the layer whose output a BatchNormalization reads, through nothing else.
std::map<std::string, std::vector<double>> batch_norm_scales(const Graph& graph) {
  std::map<std::string, std::vector<double>> out;
  const graph::Links links(graph);
  for (const Node& node : graph.nodes) {
    if (node.op != "BatchNormalization" || !node.has_input(1)) continue;
    const auto producer = links.producer.find(node.inputs[0]);
    const Tensor* scale = graph.constant(node.inputs[1]);
    if (producer == links.producer.end() || scale == nullptr || scale->dtype() != DType::kF32)
      continue;
    const Node& layer = graph.nodes[producer->second];
    if (layer.op != "Conv" && layer.op != "ConvTranspose" && layer.op != "Gemm" && layer.op != "MatMul")
      continue;
    for (const float value : scale->as<float>())
      out[layer.name].push_back(std::fabs(static_cast<double>(value)));
  }
  return out;
}

std::vector<Json> numbers(std::initializer_list<int> values) {
  return std::vector<Json>(values.begin(), values.end());
}

void add_choices(const Graph& graph, const Node& node, const Tensor& weights, bool quantized,
                 LayerInfo& layer) {
  const bool matrix = node.op == "Gemm" || node.op == "MatMul";
  layer.weight_bits = numbers({32});
  layer.activation_bits = numbers({32});
  layer.rank_forms.emplace();
  layer.codebook = false;
  if (quantized || weights.dtype() != DType::kF32) return;
  const bool plain = node.integer("transA", 0) == 0 && (!matrix || weights.rank() == 2);
  if (!plain) return;
  layer.roundings = {"nearest"};
  if (node.op == "ConvTranspose") {
    // Its integers are turned back into f32 before it runs; one scale a channel has no axis where
    // there are groups.
    if (node.integer("group", 1) == 1) {
      layer.weight_bits = numbers({32, 8, 7, 6, 5, 4, 3, 2});
      layer.weight_bits.insert(layer.weight_bits.end(), {Json("ternary"), Json(1)});
    }
  } else {
    layer.weight_bits = numbers({32, 16, 8, 7, 6, 5, 4, 3, 2});
    layer.weight_bits.insert(layer.weight_bits.end(), {Json("ternary"), Json(1)});
    layer.activation_bits = numbers({32, 16, 8, 1});
    layer.roundings.emplace_back("adaptive");
  }
  if (layer.weight_bits.size() > 1) {
    layer.granularities = {"channel", "tensor"};
    if (matrix) layer.granularities.emplace_back("group:N");
  }
  layer.codebook = true;
  layer.rank_forms = rank_forms(graph, node);
  layer.prune_structures.emplace_back("unstructured");
  layer.prune_scores = scores_for("unstructured");
  if (node.op == "ConvTranspose") std::erase_if(layer.prune_scores, score_needs_data);
  const std::size_t input_axis = output_channel_axis(node) == 0 ? 1 : 0;
  if (weights.dim(input_axis) >= 4) layer.prune_structures.emplace_back("2:4");
}

/// The scores that channels of the layer's group take, beside those of its single weights.
void add_channel_scores(const PreparedModel& model, LayerInfo& layer) {
  std::string why;
  for (const TiedGroup& group : model.channels.groups) {
    if (group.name != layer.prune_group) continue;
    for (const std::string& score : scores_for("channel")) {
      const auto at = std::find(layer.prune_scores.begin(), layer.prune_scores.end(), score);
      if (at == layer.prune_scores.end() && can_score(model, group.layers, score, why))
        layer.prune_scores.push_back(score);
    }
  }
}

}  // namespace

Result<PreparedModel> prepare(Graph read) {
  return prepare(std::move(read), engine::PassOptions{});
}

Result<PreparedModel> prepare(Graph read, const engine::PassOptions& options) {
  PreparedModel out;
  out.batch_norm_scales = batch_norm_scales(read);
  KERF_ASSIGN(out.graph, engine::simplify(std::move(read), options));
  absorb_gemm_factors(out.graph);
  out.graph.remove_dead();
  KERF_TRY(out.graph.check());
  const Graph& graph = out.graph;
  out.channels = find_channel_groups(graph);

  ModelInfo& info = out.info;
  info.opset = graph.opset;
  for (const graph::ValueInfo& input : graph.inputs) {
    info.inputs.push_back({input.name, std::string(graph::to_string(input.dtype)), input.shape});
  }
  for (const graph::ValueInfo& output : graph.outputs) {
    info.outputs.push_back(
        {output.name, std::string(graph::to_string(output.dtype)), output.shape});
  }
  std::set<std::string> counted;
  for (const Node& node : graph.nodes) {
    if (!graph::is_layer(graph, node)) continue;
    const std::string weights_name = weights_of(graph, node);
    const Tensor& weights = *graph.constant(weights_name);
    const bool quantized = weights_name != node.inputs[1];
    KERF_TRY(check_finite(node.name, "weights", weights));
    LayerInfo layer;
    layer.name = node.name;
    layer.op = node.op;
    layer.input_shape = sample_shape(graph, node.inputs[0]);
    layer.output_shape = sample_shape(graph, node.outputs[0]);
    layer.weight_shape = weights.shape();
    layer.macs = layer_macs(graph, node);
    layer.params = weights.elements();
    if (counted.insert(weights_name).second) info.params += weights.elements();
    if (const Tensor* bias = node.has_input(2) ? graph.constant(node.inputs[2]) : nullptr) {
      KERF_TRY(check_finite(node.name, "bias", *bias));
      layer.params += bias->elements();
      if (counted.insert(node.inputs[2]).second) info.params += bias->elements();
    }
    add_choices(graph, node, weights, quantized, layer);
    if (const auto group = out.channels.group_of.find(node.name);
        group != out.channels.group_of.end()) {
      layer.prune_group = group->second;
      layer.prune_structures.insert(layer.prune_structures.begin(), "channel");
      add_channel_scores(out, layer);
    } else if (const auto why = out.channels.stays.find(node.name);
               why != out.channels.stays.end()) {
      layer.channels_stay_because = why->second;
    }
    info.macs += layer.macs;
    info.layers.push_back(std::move(layer));
  }
  info.groups = out.channels.groups;
  return out;
}

}  // namespace kerf::compress
