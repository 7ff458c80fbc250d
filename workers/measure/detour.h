#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include "workers/graph/graph.h"

namespace kerf::measure {

/// Where a graph that was made of another one leaves it and where it is back on it: before point
/// `leaves` and from point `returns` on both compute the same, so that only what lies between is
/// of its own.
struct Detour {
  int leaves = -1;  ///< Index of a point; -1: at the inputs.
  int returns = 0;  ///< Index of a point, at least `leaves`; their number: it is back nowhere.
};

/// Compares graphs with one at points where it can be cut (cut_points).
///
/// Nodes are the same under the same name, with the same inputs, outputs, attributes and constants. A
/// point is one of the other graph too where nothing bypasses it there. A layer in bf16 before a global
/// pooling leaves its output in bf16, so that the pooling belongs to it.
///
/// Cost:     one pass over the other graph's nodes; constants that share their bytes aren't read.
class Detours {
 public:
  /// `points`: names of values of `base`, in the order of its nodes. `base` has to outlive this.
  Detours(const graph::Graph& base, std::vector<std::string> points);

  [[nodiscard]] Detour of(const graph::Graph& other) const;

 private:
  [[nodiscard]] bool same(const graph::Graph& other, const graph::Node& node) const;

  const graph::Graph* base_;
  std::vector<std::string> points_;
  std::map<std::string, const graph::Node*> nodes_;  // of the base, by name
  std::map<std::string, int> index_;                 // of points
  std::vector<bool> pooled_;                         // points that a global pooling reads
};

}  // namespace kerf::measure
