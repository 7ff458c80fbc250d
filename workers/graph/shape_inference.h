#pragma once

#include <cstdint>
#include <set>
#include <string>

#include "core/result.h"
#include "workers/graph/graph.h"

namespace kerf::graph {

/// Fills graph.values from the inputs' shapes and the constants, and the types and shapes of
/// graph.outputs with it.
///
/// Shapes:   a dimension that stays unknown is -1. The first dimension of all inputs that leave it
///           free is taken for one and the same batch, so that sums over it stay consistent.
/// Maths:    constant-valued shape arithmetic (Shape, Gather, Concat, Range … of integers) is
///           followed, free dimensions included.
/// Errors:   invalid_argument naming node, op and shapes where they don't fit, a dimension is
///           negative or overflows, or a rank is above 16; unimplemented naming an op that isn't
///           known. graph.values then holds what was found before that node.
/// Cost:     one pass over the nodes; constants of up to 65536 integers are followed.
[[nodiscard]] Result<void> infer_shapes(Graph& graph);

/// The same model for a batch of `batch` samples.
///
/// The first dimension of each graph input is set, constant Reshape, Expand and Resize targets that
/// carry the old batch are corrected, and all shapes are inferred: static, as far as the model's
/// own free dimensions beyond the batch allow.
///
/// Errors:   failed_precondition naming the node that mixes samples or moves the batch away from
///           axis 0; the caller then runs samples one by one at the model's own batch.
///           invalid_argument where `batch` is below 1 or infer_shapes refuses the result.
[[nodiscard]] Result<Graph> with_batch(const Graph& graph, std::int64_t batch);

/// The ops (ai.onnx, signatures of opset 17) whose shapes are known.
[[nodiscard]] const std::set<std::string>& known_ops();

}  // namespace kerf::graph
