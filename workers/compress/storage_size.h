#pragma once

#include <cstdint>

#include "workers/graph/graph.h"

namespace kerf::compress {

/// Bytes of the packed file of a graph, by a fixed formula, so that candidates compare alike.
///
/// Maths:    size = 64 + Σ tensors + Σ nodes + Σ ports.
///           A tensor of n elements of b bits has a header of 8 + 2·rank + |name| bytes, then the
///           smaller of: dense ⌈n·b/8⌉; sparse ⌈n/8⌉ + ⌈z·b/8⌉ with z non-zero elements (a bitmask
///           and what it selects). b is kerf_bits for integer weights, 16 for the weights of a bf16
///           layer, else the bits of the type (s4, u4: 4). The scales of weights are f32 tensors and
///           count as such; zero points that are all 0 and rounded biases' copies cost nothing.
///           A node costs 4 + |op| + |name| + Σ (2 + |input|) + Σ (2 + |output|) + Σ attributes
///           (|name| + payload: 8 a number, the text, or the tensor); `kerf_` attributes are free.
///           A port (graph input or output) costs 4 + |name| + 8·rank.
/// Units:    bytes. For an f32 model that is its weights plus about 100 bytes a node.
[[nodiscard]] std::int64_t storage_size(const graph::Graph& graph);

}  // namespace kerf::compress
