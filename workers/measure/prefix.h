#pragma once

#include <string>
#include <vector>

#include "workers/graph/digest.h"
#include "workers/graph/graph.h"

namespace kerf::measure {

/// A value that everything after it is computed from, and nothing else but constants.
struct CutPoint {
  std::string value;
  graph::Digest fingerprint;  ///< Of what it is computed from; see graph::fingerprints.
  double share = 0;           ///< Of the graph's multiply-adds that come before it, 0…1.
};

/// The points where a graph can be cut in two without changing a bit of what it gives, in the order
/// of its nodes. Left out are values in the middle of what the engine fuses: before an activation
/// or a QuantizeLinear, after a DequantizeLinear, around bf16 layers, between integer ones and a global
/// pooling.
///
/// Needs:    shapes inferred, nodes in topological order.
[[nodiscard]] std::vector<CutPoint> cut_points(const graph::Graph& graph);

/// What computes the value.
[[nodiscard]] graph::Graph head_of(const graph::Graph& graph, const std::string& value);

/// What computes the outputs from the value, which is its only input.
[[nodiscard]] graph::Graph tail_of(const graph::Graph& graph, const std::string& value);

/// What computes `to` from `from`, its only input. Empty names: the graph's own outputs, and inputs.
[[nodiscard]] graph::Graph part_of(const graph::Graph& graph, const std::string& from, const std::string& to);

}  // namespace kerf::measure
