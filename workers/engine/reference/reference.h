#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "core/result.h"
#include "workers/graph/graph.h"

namespace kerf::engine {

/// Evaluates one node by a plain, slow kernel: row-major, f32 sums in double, integers exact.
///
/// `inputs` are in the node's order; an omitted optional input is an empty Tensor (raw() null).
///
/// Errors:   unimplemented for an op without a kernel, invalid_argument for inputs that don't fit;
///           both name the node.
/// Threads:  reentrant.
[[nodiscard]] Result<std::vector<graph::Tensor>> evaluate(const graph::Node& node,
                                                          std::span<const graph::Tensor> inputs);

/// Whether evaluate() knows the op.
[[nodiscard]] bool has_reference(const graph::Node& node);

/// Runs the whole graph by evaluate(); inputs in the order of graph.inputs.
[[nodiscard]] Result<std::vector<graph::Tensor>> run_reference(
    const graph::Graph& graph, const std::vector<graph::Tensor>& inputs);

/// Like run_reference(), but gives every value by its name (inputs and outputs included).
[[nodiscard]] Result<std::map<std::string, graph::Tensor>> run_reference_values(
    const graph::Graph& graph, const std::vector<graph::Tensor>& inputs);

}  // namespace kerf::engine
