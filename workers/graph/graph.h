#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "core/result.h"
#include "workers/graph/tensor.h"

namespace kerf::graph {

struct Graph;

inline constexpr const char* kRemoveDeadNodes = "remove-dead-nodes";
inline constexpr const char* kFuseActivations = "fuse-activations";

using Attribute = std::variant<std::int64_t, float, std::string, std::vector<std::int64_t>,
                               std::vector<float>, std::vector<std::string>, Tensor,
                               std::shared_ptr<const Graph>>;

/// An operator's call. Inputs and outputs are names of values; an omitted optional one is "".
struct Node {
  std::string name;
  std::string op;      ///< ONNX's name: "Conv".
  std::string domain;  ///< "" = ai.onnx.
  std::vector<std::string> inputs;
  std::vector<std::string> outputs;
  std::map<std::string, Attribute> attributes;

  [[nodiscard]] std::int64_t integer(const std::string& name, std::int64_t fallback) const;
  [[nodiscard]] float real(const std::string& name, float fallback) const;
  [[nodiscard]] std::string text(const std::string& name, const std::string& fallback) const;
  [[nodiscard]] std::vector<std::int64_t> integers(const std::string& name,
                                                   std::vector<std::int64_t> fallback = {}) const;
  [[nodiscard]] bool has_input(std::size_t i) const { return i < inputs.size() && !inputs[i].empty(); }
  /// "Conv 'layer1.0.conv1'", for messages.
  [[nodiscard]] std::string label() const { return op + " '" + name + "'"; }
};

/// A value's type. dtype and shape as far as they are known.
struct ValueInfo {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;
};

/// A model between reader, passes, compression, executor and writer.
///
/// Invariants that check() verifies: nodes in topological order; every value has one producer
/// (a graph input, an initializer or a node); every read value has a producer; node names are
/// unique and not empty.
///
/// Canonical form, which the reader makes whatever the file's opset: operators have the signature
/// of opset 17 (pads, split sizes, clip bounds, K of TopK … as inputs), with one exception that
/// makes them all alike: the axes of every Reduce*, of Squeeze and of Unsqueeze are input 1 (the
/// writer turns them back into attributes where opset 17 has them so). There are no Constant,
/// Dropout and Upsample nodes, and f16, bf16 and f64 are f32 throughout. Ops that came after opset
/// 17 keep the signature that they came with: Gelu, Mish, GroupNormalization (scale and bias per
/// channel), and QuantizeLinear and DequantizeLinear with block_size.
struct Graph {
  std::string name;
  std::int64_t opset = 17;
  std::vector<ValueInfo> inputs;   ///< Without those that have an initializer.
  std::vector<ValueInfo> outputs;
  std::map<std::string, Tensor> initializers;
  std::vector<Node> nodes;
  std::map<std::string, ValueInfo> values;      ///< What shape inference found, by value name.
  std::map<std::string, std::string> metadata;  ///< metadata_props.
  /// Passes that the user switched off (engine/passes.h). Some run again whenever a graph is rewritten
  /// or compiled, so the wish travels with the graph; it is no part of a file.
  std::set<std::string> disabled_passes;

  [[nodiscard]] const Tensor* constant(const std::string& value) const;
  [[nodiscard]] const Node* producer(const std::string& value) const;  ///< O(nodes).
  [[nodiscard]] std::vector<const Node*> consumers(const std::string& value) const;  ///< O(nodes).
  [[nodiscard]] bool is_output(const std::string& value) const;
  [[nodiscard]] const ValueInfo* value(const std::string& wanted) const;  ///< Inputs and inferred ones.

  /// A name that no value and no node has yet, starting with `stem`.
  [[nodiscard]] std::string fresh_name(const std::string& stem) const;

  /// Errors:   invalid_argument naming node and value.
  [[nodiscard]] Result<void> check() const;

  /// Puts the nodes into topological order (stable).
  ///
  /// Errors:   invalid_argument naming a node of a cycle.
  [[nodiscard]] Result<void> sort();

  /// Drops nodes and initializers that no output needs. Nodes stay where disabled_passes has
  /// kRemoveDeadNodes; constants that no node reads go nevertheless.
  void remove_dead();

  /// The same whatever is switched off: for a graph that gets other outputs, whose rest may read
  /// what isn't there any more.
  void cut_to_outputs();
};

/// Producers and consumers by value name, for passes that ask often. Indices into graph.nodes;
/// invalid after the graph changes.
struct Links {
  explicit Links(const Graph& graph);
  std::map<std::string, std::size_t> producer;
  std::map<std::string, std::vector<std::size_t>> consumers;

  [[nodiscard]] const std::vector<std::size_t>& of(const std::string& value) const;
};

/// Whether the node is a layer: Conv, ConvTranspose, Gemm or MatMul whose weights are constant.
/// Weights behind a DequantizeLinear of a constant count. Input 1 is the weights.
[[nodiscard]] bool is_layer(const Graph& graph, const Node& node);

}  // namespace kerf::graph
