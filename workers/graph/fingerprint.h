#pragma once

#include <map>
#include <string>

#include "workers/graph/digest.h"
#include "workers/graph/graph.h"

namespace kerf::graph {

/// For each value of the graph (nodes' outputs and graph inputs) what it is computed from and how:
/// equal for values of two graphs that the same nodes with the same attributes and constants make of
/// the same inputs, whatever anything is called.
///
/// Cost:     one pass over the nodes and one over the bytes of the constants.
/// Needs:    nodes in topological order.
[[nodiscard]] std::map<std::string, Digest> fingerprints(const Graph& graph);

}  // namespace kerf::graph
