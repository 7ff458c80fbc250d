#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/model_info.h"
#include "core/result.h"
#include "workers/compress/channel_groups.h"
#include "workers/graph/graph.h"

namespace kerf::engine {
struct PassOptions;
}

namespace kerf::compress {

/// A model that is ready to compress, and what `kerf inspect` says of it.
struct PreparedModel {
  graph::Graph graph;     ///< Simplified, f32, shapes inferred; layers keep their node names.
  ModelInfo info;         ///< LayerInfo.kernel is empty: only a compiled executor knows it.
  ChannelGroups channels; ///< Which output channels may go, and what goes with them.
};

/// Simplifies a graph that was read and describes its layers.
///
/// Shapes:   those of one sample: the first free dimension of a shape counts as 1.
/// Units:    macs = multiply-adds of one sample; params = elements of weights and biases of layers.
/// Errors:   invalid_argument naming layer and place of a weight that is not finite; what
///           engine::simplify says.
[[nodiscard]] Result<PreparedModel> prepare(graph::Graph read);
[[nodiscard]] Result<PreparedModel> prepare(graph::Graph read, const engine::PassOptions& options);

/// Multiply-adds of one sample of a layer, from the shapes of its weights and of its output; 0
/// where a shape is not known.
[[nodiscard]] std::int64_t layer_macs(const graph::Graph& graph, const graph::Node& layer);

/// The axis of a layer's weights along which its output channels lie: 0 for Conv and a transposed
/// Gemm, 1 for ConvTranspose, Gemm and MatMul.
[[nodiscard]] std::size_t output_channel_axis(const graph::Node& layer);

/// The name of a layer's weights: its input 1, or the constant behind that input's DequantizeLinear.
[[nodiscard]] std::string weights_of(const graph::Graph& graph, const graph::Node& layer);

}  // namespace kerf::compress
