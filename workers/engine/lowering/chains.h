#pragma once

#include <optional>
#include <vector>

#include "workers/engine/kernels/pointwise.h"
#include "workers/graph/graph.h"

namespace kerf::engine {

/// What one node of a chain does to the running value.
struct ChainLink {
  PointStage stage;     ///< stage.operand is -1; a binary one's operand is `other`.
  std::string other;    ///< The value that a binary stage combines with; "" for unary ones.
  std::size_t node = 0;
};

/// An anchor (a layer, or an elementwise node) and the nodes after it that one step can do: each
/// reads only what the one before gave, which nobody else reads. The chain is placed where its last
/// node stood, so that all it combines with is there.
struct Chain {
  std::size_t anchor = 0;
  std::size_t last = 0;
  std::vector<ChainLink> links;
  std::optional<Numeric> quantize;  ///< Ends in a QuantizeLinear with these parameters.
  std::string output;               ///< The value that the chain gives.
};

/// The function of an elementwise node of one data input (or of two, one a constant scalar).
[[nodiscard]] std::optional<PointStage> unary_stage(const graph::Graph& graph, const graph::Node& node);
[[nodiscard]] std::optional<PointOp> binary_op(const graph::Node& node, bool reversed);

/// scale, zero point and type of a per-tensor QuantizeLinear or DequantizeLinear of 8 bits with
/// constant parameters; nullopt for any other.
[[nodiscard]] std::optional<Numeric> tensor_numeric(const graph::Graph& graph, const graph::Node& node);

/// All chains, by the index of their last node; members.at(i) says whether node i is part of a
/// chain without being its last. Where "fuse-activations" is switched off, chains have no links.
struct Chains {
  std::vector<std::optional<Chain>> ending_at;
  std::vector<bool> member;
};
[[nodiscard]] Chains find_chains(const graph::Graph& graph);

}  // namespace kerf::engine
