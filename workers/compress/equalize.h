#pragma once

#include "workers/graph/graph.h"

namespace kerf::compress {

/// Brings the ranges of channels together across pairs of layers, without changing what the graph
/// computes.
///
/// Pairs:    a Conv, Gemm or MatMul and the one Conv, Gemm or MatMul that reads it, with nothing
///           between them but ops that keep a positive factor a channel: Relu, LeakyRelu, PRelu,
///           Identity, pools, and a Flatten between a convolution and a matrix. Layers with shared
///           weights are left alone.
/// Maths:    channel c of the first layer (weights and bias) is divided by s, what reads it in the
///           second multiplied by it: s = √(r₁ / r₂), r = the largest |w| of the channel on either
///           side, so that both become √(r₁ r₂); rounded to a power of two, so that every product
///           and sum of the graph stays the same bit for bit. Repeated over all pairs until nothing
///           changes, 20 times at most. A channel that is all zeros on one side, or whose weights
///           would leave the normal floats, keeps its scale.
/// Source:   Nagel et al. 2019, arXiv:1906.04721, section 4.1.
[[nodiscard]] graph::Graph equalize(const graph::Graph& graph);

}  // namespace kerf::compress
