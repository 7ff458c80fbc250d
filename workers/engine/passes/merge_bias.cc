#include "workers/engine/passes/passes_internal.h"
#include "workers/engine/passes/rewriter.h"

namespace kerf::engine {
namespace {

using graph::DType;
using graph::Graph;
using graph::Node;
using graph::Tensor;

/// The addend as one value a channel, where it is that; `channel_axis` counts from the end.
std::optional<std::vector<float>> per_channel(const Tensor& addend, std::int64_t channels,
                                              std::size_t rank, std::size_t channel_axis) {
  if (addend.dtype() != DType::kF32 || addend.rank() > rank) return std::nullopt;
  const auto values = addend.as<float>();
  if (addend.elements() == 1) {
    return std::vector<float>(static_cast<std::size_t>(channels), values[0]);
  }
  if (addend.elements() != channels || addend.rank() <= channel_axis ||
      addend.dim(addend.rank() - 1 - channel_axis) != channels) {
    return std::nullopt;
  }
  return std::vector<float>(values.begin(), values.end());
}

bool merge_into(Rewriter& rewriter, std::size_t at, std::size_t add) {
  Node& layer = rewriter.node(at);
  const Node& sum = rewriter.node(add);
  if (sum.inputs.size() != 2) return false;
  const std::string& other = sum.inputs[sum.inputs[0] == layer.outputs[0] ? 1 : 0];
  const Tensor* addend = rewriter.constant(other);
  const graph::ValueInfo* out = rewriter.graph().value(layer.outputs[0]);
  if (addend == nullptr || out == nullptr || out->shape.size() < 2) return false;
  const std::size_t rank = out->shape.size();
  const bool spatial = layer.op == "Conv" || layer.op == "ConvTranspose";
  if (!spatial && rank != 2) return false;
  const std::int64_t channels = out->shape[1];
  if (channels < 1) return false;
  auto bias = per_channel(*addend, channels, rank, rank - 2);
  if (!bias) return false;
  if (layer.has_input(2)) {
    const Tensor* old = rewriter.constant(layer.inputs[2]);
    if (old == nullptr || old->dtype() != DType::kF32) return false;
    const float beta = layer.op == "Gemm" ? layer.real("beta", 1.0F) : 1.0F;
    const auto values = old->as<float>();
    if (old->rank() == 2 && old->dim(0) != 1) return false;
    if (values.size() != bias->size() && values.size() != 1) return false;
    for (std::size_t c = 0; c < bias->size(); ++c) {
      (*bias)[c] += beta * values[values.size() == 1 ? 0 : c];
    }
  }
  if (layer.op == "Gemm") layer.attributes.erase("beta");
  if (layer.op == "MatMul") {
    const graph::ValueInfo* left = rewriter.graph().value(layer.inputs[0]);
    if (left == nullptr || left->shape.size() != 2) return false;
    layer.op = "Gemm";
  }
  rewriter.set_input(at, 2, rewriter.add_constant(layer.name + "_bias", Tensor::f32({channels}, *bias)));
  rewriter.take_output(at, add);
  return true;
}

}  // namespace

Result<bool> merge_bias(Graph& graph) {
  Rewriter rewriter(graph);
  bool changed = false;
  for (std::size_t i = 0; i < rewriter.size(); ++i) {
    if (!rewriter.alive(i) || !graph::is_layer(graph, rewriter.node(i))) continue;
    while (true) {
      const auto next = rewriter.only_consumer(rewriter.node(i).outputs[0]);
      if (!next || rewriter.node(*next).op != "Add" || !merge_into(rewriter, i, *next)) break;
      changed = true;
    }
  }
  KERF_TRY(rewriter.finish());
  return changed;
}

}  // namespace kerf::engine
