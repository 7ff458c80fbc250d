#include "workers/compress/integer_bias.h"

#include <cmath>
#include <limits>
#include <string>

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

}  // namespace

std::optional<IntegerBias> integer_bias(const Graph& graph, const Node& node) {
  const Tensor* bias = node.has_input(2) ? graph.constant(node.inputs[2]) : nullptr;
  if (!graph::is_layer(graph, node) || bias == nullptr || bias->dtype() != graph::DType::kF32) return std::nullopt;
  if (node.real("alpha", 1.0F) != 1.0F || node.real("beta", 1.0F) != 1.0F) return std::nullopt;
  if (is_rescaled(graph, node.inputs[0])) return std::nullopt;
  const std::vector<float> input = scales_behind(graph, node.inputs[0], false);
  const std::vector<float> weights = scales_behind(graph, node.inputs[1], true);
  // A scale for each group of weights is none for a sum of groups.
  const bool fits = weights.size() == 1 || static_cast<std::int64_t>(weights.size()) == bias->elements();
  const Tensor* constant = graph.constant(weights_of(graph, node));
  if (input.size() != 1 || !fits || constant == nullptr ||
      bias->elements() != output_channels(node, constant->shape())) {
    return std::nullopt;
  }
  IntegerBias out;
  for (const float scale : weights) {
    out.scales.push_back(input[0] * scale);
    if (!(out.scales.back() >= std::numeric_limits<float>::min())) return std::nullopt;
  }
  const auto source = bias->as<float>();
  for (std::size_t i = 0; i < source.size(); ++i) {
    const double scale = out.scales[out.scales.size() == 1 ? 0 : i];
    const double value = std::nearbyint(static_cast<double>(source[i]) / scale);
    if (!(std::fabs(value) <= std::numeric_limits<std::int32_t>::max())) return std::nullopt;
    out.values.push_back(static_cast<std::int32_t>(value));
  }
  return out;
}

void settle_biases(Graph& graph) {
  for (Node& node : graph.nodes) {
    const auto integers = integer_bias(graph, node);
    if (!integers) continue;
    std::vector<float> settled;
    for (std::size_t i = 0; i < integers->values.size(); ++i) {
      settled.push_back(static_cast<float>(integers->values[i]) *
                        integers->scales[integers->scales.size() == 1 ? 0 : i]);
    }
    const graph::Shape shape = graph.constant(node.inputs[2])->shape();
    set_constant(graph, node, 2, Tensor::f32(shape, settled));
  }
}

}  // namespace kerf::compress
