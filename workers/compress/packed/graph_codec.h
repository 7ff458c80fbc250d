#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "workers/graph/graph.h"

namespace kerf::compress::packed {

/// Tensors of at most this many bytes lie in the graph's section: a section of their own would be
/// larger than they are.
inline constexpr std::size_t kInlineBytes = 64;

/// The name under which the metadata keep the source's hash, "sha256:" and 64 hex digits; it travels
/// in the header.
inline constexpr const char* kSourceKey = "kerf.source";

/// A graph as bytes: everything but the elements of its larger tensors, which `tensors` gets in the
/// order in which the text mentions them. Attributes kerf_… stay out.
[[nodiscard]] std::string encode_graph(const graph::Graph& graph,
                                       std::vector<const graph::Tensor*>& tensors);

/// A tensor whose elements lie elsewhere.
struct TensorSlot {
  std::string name;
  graph::DType dtype = graph::DType::kF32;
  graph::Shape shape;
};

/// The graph without those tensors, which `slots` names.
///
/// Errors:   invalid_argument.
[[nodiscard]] Result<graph::Graph> decode_graph(std::string_view text,
                                                std::vector<TensorSlot>& slots);

}  // namespace kerf::compress::packed
