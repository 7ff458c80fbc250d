#pragma once

#include "core/result.h"
#include "workers/graph/graph.h"

namespace kerf::engine {

/// Each pass keeps what the graph computes. They leave graph.values as it was; simplify() infers
/// shapes between them where a pass needs them.

/// QLinearConv and QLinearMatMul become DequantizeLinear, Conv or MatMul, QuantizeLinear.
[[nodiscard]] Result<void> qoperator_to_qdq(graph::Graph& graph);
/// MatMulInteger and ConvInteger between DynamicQuantizeLinear and a Cast and Mul that give the result
/// its scale become MatMul and Conv of DequantizeLinear, which is what they were made from.
[[nodiscard]] Result<void> integer_to_qdq(graph::Graph& graph);
/// Identity, Dropout, casts and reshapes that change nothing, sums of one value.
[[nodiscard]] Result<void> remove_identity(graph::Graph& graph);
/// Nodes whose inputs are all constant become constants. `with_shapes` also takes Shape and Size of
/// values whose shape is static, which ties the graph to its batch.
[[nodiscard]] Result<void> fold_constants(graph::Graph& graph, bool with_shapes);
/// BatchNormalization into the Conv, ConvTranspose, Gemm or MatMul that alone feeds it. Gives
/// whether anything changed.
[[nodiscard]] Result<bool> fold_batch_norm(graph::Graph& graph);
/// Constant Adds into the layer before them. Gives whether anything changed.
[[nodiscard]] Result<bool> merge_bias(graph::Graph& graph);

}  // namespace kerf::engine
