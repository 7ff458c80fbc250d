#pragma once

#include <string>

#include "workers/graph/graph.h"

namespace kerf::compress {

/// Rounds every element to the nearest bfloat16, ties to even; the type stays f32.
///
/// Source:   Kalamkar et al. 2019, arXiv:1905.12322.
[[nodiscard]] graph::Tensor round_to_bf16(const graph::Tensor& weights);

/// Makes a layer run in bf16: rounds its weights and marks the node with kerf_precision = "bf16".
/// Other readers of the weights keep them as they are. False where there is no such layer.
[[nodiscard]] bool make_bf16(graph::Graph& graph, const std::string& layer);

}  // namespace kerf::compress
