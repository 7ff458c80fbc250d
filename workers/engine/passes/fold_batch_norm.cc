#include <cmath>

#include "workers/engine/passes/passes_internal.h"
#include "workers/engine/passes/rewriter.h"

namespace kerf::engine {
namespace {

using graph::DType;
using graph::Graph;
using graph::Node;
using graph::Tensor;

/// y = factor * x + shift, per channel.
struct Affine {
  std::vector<float> factor, shift;
};

std::optional<Affine> affine_of(const Graph& graph, const Node& node) {
  if (node.inputs.size() < 5 || node.integer("training_mode", 0) != 0) return std::nullopt;
  for (std::size_t i = 1; i < node.outputs.size(); ++i) {
    if (!node.outputs[i].empty()) return std::nullopt;
  }
  const Tensor* parts[4];
  for (std::size_t i = 0; i < 4; ++i) {
    parts[i] = graph.constant(node.inputs[i + 1]);
    if (parts[i] == nullptr || parts[i]->dtype() != DType::kF32 ||
        parts[i]->elements() != parts[0]->elements()) {
      return std::nullopt;
    }
  }
  Affine out;
  const double epsilon = static_cast<double>(node.real("epsilon", 1e-5F));
  for (std::size_t c = 0; c < static_cast<std::size_t>(parts[0]->elements()); ++c) {
    const auto p = [&](std::size_t k) { return static_cast<double>(parts[k]->as<float>()[c]); };
    const double factor = p(0) / std::sqrt(p(3) + epsilon);
    out.factor.push_back(static_cast<float>(factor));
    out.shift.push_back(static_cast<float>(p(1) - p(2) * factor));
  }
  return out;
}

/// How the output channel of element i of the weights is found: i / inner % count, or, for grouped
/// transposed convolutions, i / inner % count + group offset.
std::optional<Tensor> scaled_weights(const Node& layer, const Tensor& weights,
                                     const std::vector<float>& factor) {
  if (weights.dtype() != DType::kF32 || weights.rank() < 2) return std::nullopt;
  const std::int64_t channels = static_cast<std::int64_t>(factor.size());
  Tensor out = weights;
  const auto values = out.mutable_as<float>();
  const std::int64_t total = weights.elements();
  if (layer.op == "ConvTranspose") {
    const std::int64_t groups = layer.integer("group", 1);
    const std::int64_t per_group = weights.dim(1);
    if (per_group * groups != channels || weights.dim(0) % groups != 0) return std::nullopt;
    const std::int64_t inner = total / weights.dim(0) / per_group;
    const std::int64_t in_per_group = weights.dim(0) / groups;
    for (std::int64_t i = 0; i < total; ++i) {
      const std::int64_t row = i / inner / per_group;
      values[static_cast<std::size_t>(i)] *=
          factor[static_cast<std::size_t>(row / in_per_group * per_group + i / inner % per_group)];
    }
    return out;
  }
  const bool first_axis = layer.op == "Conv" || (layer.op == "Gemm" && layer.integer("transB", 0) != 0);
  if (weights.dim(first_axis ? 0 : weights.rank() - 1) != channels) return std::nullopt;
  const std::int64_t inner = first_axis ? total / channels : 1;
  for (std::int64_t i = 0; i < total; ++i) {
    values[static_cast<std::size_t>(i)] *= factor[static_cast<std::size_t>(i / inner % channels)];
  }
  return out;
}

bool fold_into(Rewriter& rewriter, std::size_t at, std::size_t batch_norm) {
  Node& layer = rewriter.node(at);
  const auto affine = affine_of(rewriter.graph(), rewriter.node(batch_norm));
  const Tensor* weights = layer.has_input(1) ? rewriter.constant(layer.inputs[1]) : nullptr;
  if (!affine || weights == nullptr) return false;
  if (layer.op == "MatMul" || layer.op == "Gemm") {
    // The channel of BatchNormalization is axis 1, which is the last one only in two dimensions.
    const graph::ValueInfo* out = rewriter.graph().value(layer.outputs[0]);
    if (out == nullptr || out->shape.size() != 2) return false;
  }
  std::vector<float> bias(affine->factor.size(), 0.0F);
  if (layer.has_input(2)) {
    const Tensor* old = rewriter.constant(layer.inputs[2]);
    if (old == nullptr || old->dtype() != DType::kF32) return false;
    const auto values = old->as<float>();
    if (values.size() != bias.size() && values.size() != 1) return false;
    if (old->rank() == 2 && old->dim(0) != 1) return false;
    for (std::size_t c = 0; c < bias.size(); ++c) bias[c] = values[values.size() == 1 ? 0 : c];
  }
  auto scaled = scaled_weights(layer, *weights, affine->factor);
  if (!scaled) return false;
  // alpha multiplies the weights that were scaled; beta belongs to the bias.
  const float beta = layer.op == "Gemm" ? layer.real("beta", 1.0F) : 1.0F;
  for (std::size_t c = 0; c < bias.size(); ++c) {
    bias[c] = bias[c] * beta * affine->factor[c] + affine->shift[c];
  }
  if (layer.op == "Gemm") layer.attributes.erase("beta");
  const auto channels = static_cast<std::int64_t>(bias.size());
  const std::string weights_name = rewriter.add_constant(layer.inputs[1] + "_folded", std::move(*scaled));
  rewriter.set_input(at, 1, weights_name);
  const std::string bias_name = rewriter.add_constant(layer.name + "_bias", Tensor::f32({channels}, bias));
  if (layer.op == "MatMul") layer.op = "Gemm";
  rewriter.set_input(at, 2, bias_name);
  rewriter.take_output(at, batch_norm);
  return true;
}

}  // namespace

Result<bool> fold_batch_norm(Graph& graph) {
  Rewriter rewriter(graph);
  bool changed = false;
  for (std::size_t i = 0; i < rewriter.size(); ++i) {
    if (!rewriter.alive(i) || !graph::is_layer(graph, rewriter.node(i))) continue;
    const auto next = rewriter.only_consumer(rewriter.node(i).outputs[0]);
    if (!next || rewriter.node(*next).op != "BatchNormalization" ||
        rewriter.node(*next).inputs[0] != rewriter.node(i).outputs[0]) {
      continue;
    }
    changed = fold_into(rewriter, i, *next) || changed;
  }
  KERF_TRY(rewriter.finish());
  return changed;
}

}  // namespace kerf::engine
