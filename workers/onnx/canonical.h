#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "core/result.h"
#include "workers/graph/graph.h"
#include "workers/graph/shapes/call.h"

namespace kerf::onnx {

/// Rewrites nodes of any accepted opset into the canonical form, one after the other, inferring
/// shapes as it goes (some old signatures mean something only once a rank is known).
class Canonicalizer {
 public:
  /// `graph` holds inputs, outputs and initializers already; `taken` all names of values and nodes
  /// that the file uses.
  Canonicalizer(graph::Graph& graph, std::int64_t opset, std::unordered_set<std::string> taken);

  [[nodiscard]] Result<void> begin() { return inference_.begin(); }

  /// Appends what `node` means to the graph. Nodes come in topological order.
  ///
  /// Errors:   invalid_argument or unimplemented naming the node.
  [[nodiscard]] Result<void> add(graph::Node node);

  /// Fills the graph's values and the types of its outputs.
  [[nodiscard]] Result<void> finish() { return inference_.finish(graph_); }

  // For the rules:

  [[nodiscard]] std::int64_t opset() const { return opset_; }

  /// Infers a node that is canonical and appends it.
  [[nodiscard]] Result<void> emit(graph::Node node);

  /// Makes `name` a constant; it is a value that had a producer.
  [[nodiscard]] Result<void> replace_by_constant(const std::string& name, graph::Tensor tensor);

  /// A new constant; its name starts with the node's name.
  [[nodiscard]] std::string constant(const graph::Node& node, const std::string& what,
                                     graph::Tensor tensor);
  [[nodiscard]] std::string fresh(const std::string& stem);

  /// The constant at input i, or null.
  [[nodiscard]] const graph::Tensor* constant_input(const graph::Node& node, std::size_t i) const;

  /// The integers that input i is known to hold, constant or as a result of shape arithmetic.
  [[nodiscard]] std::optional<std::vector<std::int64_t>> known_integers(const graph::Node& node,
                                                                        std::size_t i);

  /// Type and shape of input i; free dimensions as in shapes::Value.
  [[nodiscard]] Result<const graph::shapes::Value*> input(const graph::Node& node, std::size_t i);

  [[nodiscard]] bool is_output(const std::string& value) const { return outputs_.contains(value); }

  /// How often the file's nodes and outputs read a value.
  void set_readers(std::unordered_map<std::string, std::size_t> readers) {
    readers_ = std::move(readers);
  }
  [[nodiscard]] bool is_read(const std::string& value) const { return readers_.contains(value); }

  [[nodiscard]] graph::Graph& graph() { return graph_; }

  /// Counts nodes that bodies of If, Loop and Scan become.
  ///
  /// Errors:   resource_exhausted naming `owner`, past limits.h's kMaxNodes for the whole model.
  [[nodiscard]] Result<void> count_expanded(const graph::Node& owner, std::size_t nodes);

 private:
  graph::Graph& graph_;
  std::int64_t opset_;
  std::unordered_set<std::string> taken_;
  std::unordered_set<std::string> outputs_;
  std::unordered_map<std::string, std::size_t> readers_;
  graph::shapes::Inference inference_;
  std::unordered_map<std::string, std::size_t> next_;  ///< By stem, see fresh().
  std::size_t expanded_ = 0;
};

using CanonicalRule = Result<void> (*)(Canonicalizer&, graph::Node);
using CanonicalRules = std::unordered_map<std::string, CanonicalRule>;

/// All rules of the families below.
[[nodiscard]] const CanonicalRules& canonical_rules();

/// By family (one .cc file each): op name -> rule. Ops without a rule stay as they are.
void add_attribute_rules(CanonicalRules& rules);      ///< Attributes that became inputs.
void add_identity_rules(CanonicalRules& rules);       ///< Constant, Dropout, Cast, …
void add_resampling_rules(CanonicalRules& rules);     ///< Upsample, Resize, Pad.
void add_normalization_rules(CanonicalRules& rules);  ///< Softmax, BatchNormalization, …
void add_quantized_rules(CanonicalRules& rules);      ///< QLinear*, also com.microsoft's.
void add_control_rules(CanonicalRules& rules);        ///< If, Loop, Scan.
void add_composed_rules(CanonicalRules& rules);       ///< Ops that are written as others.
void add_einsum_rules(CanonicalRules& rules);         ///< Einsum.
void add_attention_rules(CanonicalRules& rules);      ///< Attention, RotaryEmbedding.

/// invalid_argument / unimplemented "node Conv 'x': why".
[[nodiscard]] Error node_error(const graph::Node& node, const std::string& why);
[[nodiscard]] Error node_unsupported(const graph::Node& node, const std::string& why);

}  // namespace kerf::onnx
