#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "workers/graph/graph.h"

namespace kerf::compress {

/// The axis of a layer's weights along which its output channels lie: 0 for Conv and a transposed
/// Gemm, 1 for ConvTranspose, Gemm and MatMul.
[[nodiscard]] std::size_t output_channel_axis(const graph::Node& layer);

/// The name of a layer's weights: its input 1, or the constant behind that input's
/// DequantizeLinear. Empty where the node is no layer.
[[nodiscard]] std::string weights_of(const graph::Graph& graph, const graph::Node& layer);

/// Number of output channels of a layer with weights of this shape.
[[nodiscard]] std::int64_t output_channels(const graph::Node& layer, const graph::Shape& weights);

/// Multiply-adds of one sample of a layer, from the shapes of its weights and of its output (its
/// input, for ConvTranspose); 0 where a shape is not known. The first dimension counts as 1.
[[nodiscard]] std::int64_t layer_macs(const graph::Graph& graph, const graph::Node& layer);

/// The node of that name; null where there is none.
[[nodiscard]] graph::Node* find_node(graph::Graph& graph, const std::string& name);
[[nodiscard]] const graph::Node* find_node(const graph::Graph& graph, const std::string& name);

/// Replaces a constant input of a node. Other readers of the constant keep the old one.
void set_constant(graph::Graph& graph, graph::Node& node, std::size_t input, graph::Tensor value);

}  // namespace kerf::compress
