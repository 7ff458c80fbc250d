#pragma once

#include <cstdint>

#include "workers/graph/graph.h"

namespace kerf::compress {

/// Bytes of the packed file of a graph, by a fixed formula, so that candidates compare alike.
///
/// In that file values are known by their number; names are kept for layers, inputs and outputs
/// only. Maths:    size = 64 + Σ tensors + Σ nodes + Σ ports.
///           A tensor of n elements of b bits costs 8 + 4·rank, and the smaller of: dense ⌈n·b/8⌉;
///           sparse ⌈n/8⌉ + ⌈z·b/8⌉ with z non-zero elements (a bitmask and what it selects).
///           b is kerf_bits for integer weights, 16 for the weights of a bf16 layer, else the bits
///           of the type (s4, u4: 4). Scales and biases are f32 tensors like any other. A zero
///           point that is 0 throughout, or as a scalar (which lies in its node), costs nothing. A
///           node costs 8 + 4·(inputs + outputs), its name where it is a layer, and for each
///           attribute 2 + its payload (8 a number, 4 a float, the text, or the tensor's bytes);
///           attributes kerf_… are free.
///           A port (graph input or output) costs 4 + |name| + 8·rank.
/// Units:    bytes. For an f32 model that is its weights plus 30 to 120 bytes a node.
[[nodiscard]] std::int64_t storage_size(const graph::Graph& graph);

}  // namespace kerf::compress
