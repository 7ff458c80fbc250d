#pragma once

#include <cstdint>

#include "core/result.h"
#include "workers/graph/graph.h"
#include "workers/graph/shapes/call.h"

namespace kerf::onnx {

/// The canonical graph in the signatures of an opset that files have: 17 or 21.
///
/// Axes of Reduce* become attributes for 17, Split says its number of outputs for 21, and ops that
/// the opset doesn't have yet (Gelu, Mish, GroupNormalization) become the ops they consist of.
///
/// `inference` knows the graph's shapes.
///
/// Errors:   unimplemented naming a node that the opset cannot express.
[[nodiscard]] Result<graph::Graph> lower_to_opset(const graph::Graph& graph,
                                                  graph::shapes::Inference& inference,
                                                  std::int64_t opset);

}  // namespace kerf::onnx
