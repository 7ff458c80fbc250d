#pragma once

#include <set>
#include <span>
#include <string>
#include <string_view>

#include "core/result.h"
#include "workers/graph/graph.h"

namespace kerf::engine {

/// What a pass does, for its name.
struct PassInfo {
  std::string_view name;
  std::string_view does;
};

/// All passes that can be switched off: "fold-batch-norm", "fold-constants", "fuse-activations",
/// "merge-bias", "pack-signs", "remove-dead-nodes", "remove-identity".
[[nodiscard]] std::span<const PassInfo> passes();

struct PassOptions {
  std::set<std::string> disabled;  ///< Names of passes that don't run. Unknown names are refused.
};

/// The model ready to compress or to compile: constants folded, identities and dropouts removed,
/// BatchNormalization folded into the layer before it, bias Adds merged into Conv, Gemm and MatMul
/// (which becomes a Gemm where its left side is 2-D), dead nodes removed, shapes inferred.
///
/// Layers keep their node names. Works on graphs in QDQ form too: a DequantizeLinear of constant
/// weights that feeds a layer stays, QOperator nodes and dynamically quantized layers (MatMulInteger,
/// ConvInteger) become QDQ form.
///
/// "fuse-activations" is the executor's: it joins activations, residual sums and requantization to
/// the step of the layer before them. So is "pack-signs": layers that are binary on both sides count bits
/// where that is faster. "remove-dead-nodes" runs again whenever a graph was rewritten.
/// These wishes stay in Graph::disabled_passes.
///
/// Errors:   invalid_argument naming the node, or the unknown pass and the nearest known one.
/// Cost:     evaluates constant subgraphs by the plain reference kernels.
[[nodiscard]] Result<graph::Graph> simplify(graph::Graph graph, const PassOptions& options = {});

}  // namespace kerf::engine
