#pragma once

#include "core/result.h"
#include "workers/graph/graph.h"

namespace kerf::engine {

/// Rewrites a graph of static shapes into what lowering likes best; it computes the same.
///
/// x * Sigmoid(x) becomes the op kerf_Swish, x * HardSigmoid(x, 1/6, 1/2) HardSwish, the formula of
/// the error function Gelu. A QuantizeLinear moves in front of the MaxPool, Reshape, Flatten,
/// Transpose, Squeeze, Unsqueeze or Concat before it, so that these move bytes. Shapes and constants
/// are folded. Where "fuse-activations" is switched off, no op becomes another.
[[nodiscard]] Result<graph::Graph> prepare(graph::Graph graph);

}  // namespace kerf::engine
