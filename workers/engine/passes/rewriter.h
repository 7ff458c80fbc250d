#pragma once

#include <optional>
#include <string>
#include <vector>

#include "workers/graph/graph.h"

namespace kerf::engine {

/// A graph under change, with producers and consumers kept up to date, so that a pass over n nodes
/// doesn't cost n squared. Nodes are named by their index, which stays valid until finish().
class Rewriter {
 public:
  explicit Rewriter(graph::Graph& graph);

  [[nodiscard]] graph::Graph& graph() { return graph_; }
  [[nodiscard]] std::size_t size() const { return graph_.nodes.size(); }
  [[nodiscard]] graph::Node& node(std::size_t i) { return graph_.nodes[i]; }
  [[nodiscard]] bool alive(std::size_t i) const { return !dead_[i]; }

  /// The node that makes the value; nullopt for graph inputs and constants.
  [[nodiscard]] std::optional<std::size_t> producer(const std::string& value) const;
  /// The one node that reads the value (once); nullopt where there are others or it's an output.
  [[nodiscard]] std::optional<std::size_t> only_consumer(const std::string& value) const;
  [[nodiscard]] std::vector<std::size_t> consumers(const std::string& value) const;
  [[nodiscard]] bool is_output(const std::string& value) const { return outputs_.contains(value); }
  [[nodiscard]] const graph::Tensor* constant(const std::string& value) const {
    return graph_.constant(value);
  }

  void set_input(std::size_t i, std::size_t slot, const std::string& value);
  /// Adds a constant under a fresh name that starts with `stem`; gives the name.
  std::string add_constant(const std::string& stem, graph::Tensor tensor);
  /// Adds a node at the end; finish() sorts. Its name is made unique.
  std::size_t add_node(graph::Node node);
  [[nodiscard]] std::string fresh(const std::string& stem);

  /// Node `i` takes over the output of `absorbed`, which goes.
  void take_output(std::size_t i, std::size_t absorbed);
  /// Readers of node i's output read `value` instead and node i goes. False, and nothing done,
  /// where the output is the graph's and no node makes `value` for it alone.
  bool bypass(std::size_t i, const std::string& value);
  void remove(std::size_t i);

  /// Drops removed and dead nodes and puts the rest into order.
  ///
  /// Errors:   invalid_argument for a cycle, which only a broken pass makes.
  [[nodiscard]] Result<void> finish();

 private:
  graph::Graph& graph_;
  graph::Links links_;
  std::vector<bool> dead_;
  std::set<std::string> outputs_;
  std::set<std::string> taken_;
};

}  // namespace kerf::engine
