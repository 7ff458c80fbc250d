#pragma once

#include <set>
#include <string>

#include "core/result.h"
#include "workers/graph/graph.h"

namespace kerf::engine {

/// Passes by their names: "fold-constants", "remove-identity", "fold-batch-norm", "merge-bias".
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
/// Errors:   invalid_argument naming the node or the unknown pass.
/// Cost:     evaluates constant subgraphs by the plain reference kernels.
[[nodiscard]] Result<graph::Graph> simplify(graph::Graph graph, const PassOptions& options = {});

}  // namespace kerf::engine
