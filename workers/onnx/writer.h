#pragma once

#include <string>

#include "core/result.h"
#include "workers/graph/graph.h"

namespace kerf::onnx {

/// The model as a standard ONNX file in memory: opset 17 and IR 8, or opset 21 and IR 10 where
/// 4-bit or 16-bit quantized tensors or blocked scales occur.
///
/// Attributes whose name starts with "kerf_" stay out; graph.metadata becomes metadata_props; a
/// free first dimension is called "N". Gelu and Mish are written as the ops they consist of.
///
/// Errors:   invalid_argument naming what the graph lacks (see Graph::check);
///           resource_exhausted where the model passes 2 GiB, protobuf's limit.
[[nodiscard]] Result<std::string> serialize_model(const graph::Graph& graph);

/// serialize_model into a file: all of it or, where something fails, what was there before.
///
/// Errors:   as above; resource_exhausted or unavailable naming path and cause.
[[nodiscard]] Result<void> write_model(const graph::Graph& graph, const std::string& path);

}  // namespace kerf::onnx
