#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "core/result.h"
#include "workers/graph/graph.h"

namespace kerf::compress {

/// Runs a graph on some samples in steps, from one wanted value to the next, each node once.
///
/// The graph may change between the steps as long as what has run already stays: that is what a
/// recovery needs which fits one layer after another. Where the nodes between two values can't be
/// run on their own (they mix samples, or pass on a shape), everything is run again from the inputs.
///
/// Memory:   the values that nodes which haven't run yet read, for all samples.
/// Threads:  one caller at a time.
class PartialRun {
 public:
  /// `graph` has to outlive the run. `inputs`: samples along axis 0, in the order of graph.inputs.
  PartialRun(const graph::Graph& graph, std::vector<graph::Tensor> inputs, int threads);

  /// The value for all samples, as f32.
  ///
  /// Errors:   those of engine::run_all.
  [[nodiscard]] Result<graph::Tensor> value(const std::string& name);

 private:
  [[nodiscard]] Result<graph::Tensor> run_between(const std::string& name);
  [[nodiscard]] Result<graph::Tensor> run_from_inputs(const std::string& name);

  const graph::Graph& graph_;
  std::vector<graph::Tensor> inputs_;
  int threads_;
  std::map<std::string, graph::Tensor> live_;
  std::set<std::string> done_;  // names of nodes that have run
};

}  // namespace kerf::compress
