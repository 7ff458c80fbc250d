#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/model_info.h"
#include "core/result.h"
#include "workers/compress/channel_groups.h"
#include "workers/compress/layer.h"
#include "workers/graph/graph.h"

namespace kerf::engine {
struct PassOptions;
}

namespace kerf::compress {

/// A model that is ready to compress, and what `kerf inspect` says of it.
struct PreparedModel {
  graph::Graph graph;      ///< Simplified, f32, shapes inferred; layers keep their node names.
  ModelInfo info;          ///< LayerInfo.kernel is empty: only a compiled executor knows it.
  ChannelGroups channels;  ///< Which output channels may go, and what goes with them.
  /// |γ| of the BatchNormalization behind a layer, one a channel, as the file had it: folding
  /// merges it into the weights.
  std::map<std::string, std::vector<double>> batch_norm_scales;
};

/// Simplifies a graph that was read and describes its layers.
///
/// Shapes:   those of one sample: the first free dimension of a shape counts as 1.
/// Units:    macs = multiply-adds of one sample; params = elements of weights and biases of layers.
/// Errors:   invalid_argument naming layer and place of a weight that is not finite; what
///           engine::simplify says.
[[nodiscard]] Result<PreparedModel> prepare(graph::Graph read);
[[nodiscard]] Result<PreparedModel> prepare(graph::Graph read, const engine::PassOptions& options);

}  // namespace kerf::compress
