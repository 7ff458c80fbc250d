#include <algorithm>

#include "workers/engine/geometry.h"
#include "workers/engine/lowering/layers.h"
#include "workers/engine/reference/reference.h"

namespace kerf::engine {

using graph::DType;
using graph::Graph;
using graph::Node;
using graph::Tensor;

namespace {

std::int64_t output_axis(const Node& node, std::size_t rank) {
  if (node.op == "Conv") return 0;
  if (node.op == "ConvTranspose") return 1;
  if (node.op == "Gemm") return node.integer("transB", 0) != 0 ? 0 : 1;
  return static_cast<std::int64_t>(rank) - 1;
}

/// The integers less their zero points as s8, where they fit that; `axis` is that of the zero points.
Tensor centred(const Tensor& values, const Tensor* zeros, std::int64_t axis) {
  const DType dtype = values.dtype();
  if (dtype != DType::kU8 && dtype != DType::kU4 && dtype != DType::kS8 && dtype != DType::kS4) return {};
  std::vector<std::int64_t> zero{0};
  if (zeros != nullptr) zero = zeros->to_integers();
  const bool many = zero.size() > 1;
  const std::int64_t inner = many ? row_major_strides(values.shape())[static_cast<std::size_t>(axis)] : 1;
  const std::vector<std::int64_t> all = values.to_integers();
  Tensor out(DType::kS8, values.shape());
  const auto to = out.mutable_as<std::int8_t>();
  for (std::size_t i = 0; i < all.size(); ++i) {
    const std::size_t k = many ? static_cast<std::size_t>(static_cast<std::int64_t>(i) / inner) % zero.size() : 0;
    const std::int64_t v = all[i] - zero[k];
    if (v < -128 || v > 127) return {};
    to[i] = static_cast<std::int8_t>(v);
  }
  return out;
}

/// Bytes with one zero point that s8 can't hold less it: moved into s8 as they are, and the zero point
/// with them.
void keep_zero(const Tensor& values, const Tensor* zeros, LayerWeights& out) {
  if (zeros == nullptr || zeros->elements() == 0) return;
  const std::vector<std::int64_t> zero = zeros->to_integers();
  if (std::ranges::any_of(zero, [&](std::int64_t z) { return z != zero[0]; })) return;
  const DType dtype = values.dtype();
  if (dtype != DType::kU8 && dtype != DType::kS8) return;
  const int shift = dtype == DType::kU8 ? 128 : 0;
  out.integers = Tensor(DType::kS8, values.shape());
  const auto from = values.to_integers();
  const auto to = out.integers.mutable_as<std::int8_t>();
  for (std::size_t i = 0; i < from.size(); ++i) to[i] = static_cast<std::int8_t>(from[i] - shift);
  out.zero = static_cast<int>(zero[0]) - shift;
}

}  // namespace

Result<LayerWeights> layer_weights(const Graph& graph, const Node& node) {
  LayerWeights out;
  if (const Tensor* constant = graph.constant(node.inputs[1])) {
    if (constant->dtype() != DType::kF32) {
      return invalid_argument("node " + node.label() + ": weights of type " +
                              std::string(graph::to_string(constant->dtype())) + ", expected f32");
    }
    out.real = *constant;
    return out;
  }
  const Node* source = graph.producer(node.inputs[1]);
  if (source == nullptr || source->op != "DequantizeLinear" || !source->has_input(1) ||
      graph.constant(source->inputs[0]) == nullptr || graph.constant(source->inputs[1]) == nullptr) {
    return invalid_argument("node " + node.label() + ": weights aren't constant");
  }
  const Tensor& values = *graph.constant(source->inputs[0]);
  const Tensor& scales = *graph.constant(source->inputs[1]);
  const Tensor* zeros = source->has_input(2) ? graph.constant(source->inputs[2]) : nullptr;
  if (source->has_input(2) && zeros == nullptr) {
    return invalid_argument("node " + source->label() + ": zero points aren't constant");
  }
  std::vector<Tensor> inputs{values, scales};
  if (zeros != nullptr) inputs.push_back(*zeros);
  else if (source->inputs.size() > 2) inputs.emplace_back();
  KERF_ASSIGN(std::vector<Tensor> real, evaluate(*source, inputs));
  out.real = std::move(real[0]);
  const bool nibbles = values.dtype() == DType::kS4 || values.dtype() == DType::kU4;
  out.bits = static_cast<int>(source->integer("kerf_bits", nibbles ? 4 : 8));
  std::int64_t axis = source->integer("axis", 1);
  if (axis < 0) axis += static_cast<std::int64_t>(values.rank());
  if (scales.elements() == 1 || axis == output_axis(node, values.rank())) {
    out.integers = centred(values, zeros, axis);
    if (out.integers.elements() == 0) keep_zero(values, zeros, out);
    out.scales = scales.to_floats();
  }
  return out;
}

}  // namespace kerf::engine
