#include "workers/compress/export.h"

#include <cmath>
#include <limits>
#include <set>
#include <vector>

#include "workers/compress/layer.h"

namespace kerf::compress {
namespace {

using graph::Graph;
using graph::Node;
using graph::Tensor;

/// The scales of a DequantizeLinear that produces `value`; empty where there is none.
std::vector<float> scales_behind(const Graph& graph, const std::string& value, bool of_constant) {
  const Node* source = graph.producer(value);
  if (source == nullptr || source->op != "DequantizeLinear" || !source->has_input(1)) return {};
  if ((graph.constant(source->inputs[0]) != nullptr) != of_constant) return {};
  const Tensor* scale = graph.constant(source->inputs[1]);
  if (scale == nullptr || scale->dtype() != graph::DType::kF32) return {};
  return scale->to_floats();
}

/// Whether the integers were made with another scale than they are read with: signs, whose scale is
/// as large as the values themselves and too coarse for a bias.
bool is_rescaled(const Graph& graph, const std::string& value) {
  const Node* dequantize = graph.producer(value);
  const Node* quantize = dequantize == nullptr ? nullptr : graph.producer(dequantize->inputs[0]);
  return quantize != nullptr && quantize->op == "QuantizeLinear" &&
         quantize->inputs[1] != dequantize->inputs[1];
}

/// A bias as integers of the accumulator's scale; empty where it doesn't fit.
struct IntegerBias {
  std::vector<std::int32_t> values;
  std::vector<float> scales;
};

IntegerBias integer_bias(const Tensor& bias, float input_scale,
                         const std::vector<float>& weight_scales) {
  IntegerBias out;
  const auto source = bias.as<float>();
  for (const float scale : weight_scales) {
    out.scales.push_back(input_scale * scale);
    if (!(out.scales.back() >= std::numeric_limits<float>::min())) return {};
  }
  for (std::size_t i = 0; i < source.size(); ++i) {
    const double scale = out.scales[out.scales.size() == 1 ? 0 : i];
    const double value = std::nearbyint(static_cast<double>(source[i]) / scale);
    if (!(std::fabs(value) <= std::numeric_limits<std::int32_t>::max())) return {};
    out.values.push_back(static_cast<std::int32_t>(value));
  }
  return out;
}

/// Integers of 4 bits or fewer, and their zero points, as s4.
void narrow_weights(Graph& graph) {
  for (const Node& node : graph.nodes) {
    const auto bits = node.integer("kerf_bits", 8);
    if (node.op != "DequantizeLinear" || bits < 1 || bits > 4) continue;
    for (const std::size_t input : {std::size_t{0}, std::size_t{2}}) {
      const Tensor* tensor = node.has_input(input) ? graph.constant(node.inputs[input]) : nullptr;
      if (tensor == nullptr || tensor->dtype() != graph::DType::kS8) continue;
      const auto values = tensor->as<std::int8_t>();
      graph.initializers[node.inputs[input]] =
          Tensor::of(graph::DType::kS4, tensor->shape(),
                     std::vector<std::int8_t>(values.begin(), values.end()));
    }
  }
}

}  // namespace

std::map<std::string, std::string> export_metadata(const CompressionPlan& plan,
                                                   const std::string& source) {
  std::map<std::string, std::string> out = {{"kerf.plan", canonical_text(plan.to_json())},
                                            {"kerf.version", KERF_VERSION}};
  if (!source.empty()) out["kerf.source"] = source;
  return out;
}

Result<Graph> to_standard_onnx(const CompressedModel& model,
                               const std::map<std::string, std::string>& metadata,
                               const ExportOptions& options) {
  Graph out = model.graph;
  if (!options.int4_as_int8) narrow_weights(out);
  std::vector<Node> nodes;
  nodes.reserve(out.nodes.size());
  for (std::size_t n = 0; n < out.nodes.size(); ++n) {
    Node node = out.nodes[n];
    const Tensor* bias = node.has_input(2) ? out.constant(node.inputs[2]) : nullptr;
    if (graph::is_layer(out, node) && bias != nullptr && bias->dtype() == graph::DType::kF32) {
      const auto input = is_rescaled(model.graph, node.inputs[0])
                             ? std::vector<float>()
                             : scales_behind(model.graph, node.inputs[0], false);
      auto weights = scales_behind(model.graph, node.inputs[1], true);
      if (weights.size() > 1 && static_cast<std::int64_t>(weights.size()) != bias->elements()) {
        weights.clear();  // a scale for each group of weights is none for a sum of groups
      }
      const Tensor* constant = out.constant(weights_of(model.graph, node));
      const std::int64_t channels =
          constant == nullptr ? 0 : output_channels(node, constant->shape());
      const bool plain_gemm = node.real("alpha", 1.0F) == 1.0F && node.real("beta", 1.0F) == 1.0F;
      if (input.size() == 1 && !weights.empty() && bias->elements() == channels && plain_gemm) {
        IntegerBias integers = integer_bias(*bias, input[0], weights);
        if (!integers.values.empty()) {
          const std::string stem = node.name + ".bias";
          const std::string values = out.fresh_name(stem + ".integers");
          out.initializers[values] = Tensor::of(graph::DType::kS32, {channels}, integers.values);
          const std::string scale = out.fresh_name(stem + ".scale");
          const graph::Shape shape =
              integers.scales.size() == 1 && channels != 1
                  ? graph::Shape{}
                  : graph::Shape{static_cast<std::int64_t>(integers.scales.size())};
          out.initializers[scale] = Tensor::f32(shape, integers.scales);
          Node dequantize;
          dequantize.name = out.fresh_name(stem + ".dequantize");
          dequantize.op = "DequantizeLinear";
          dequantize.inputs = {values, scale};
          dequantize.outputs = {out.fresh_name(stem + ".dequantized")};
          if (!shape.empty()) dequantize.attributes["axis"] = std::int64_t{0};
          out.values[dequantize.outputs[0]] = {
              dequantize.outputs[0], graph::DType::kF32, {channels}};
          node.inputs[2] = dequantize.outputs[0];
          nodes.push_back(std::move(dequantize));
        }
      }
    }
    std::erase_if(node.attributes,
                  [](const auto& item) { return item.first.starts_with("kerf_"); });
    nodes.push_back(std::move(node));
  }
  out.nodes = std::move(nodes);
  out.remove_dead();
  for (const auto& [key, value] : metadata) out.metadata[key] = value;
  KERF_TRY(out.check());
  return out;
}

}  // namespace kerf::compress
