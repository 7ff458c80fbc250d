#include "workers/compress/represent_weights.h"

#include "workers/compress/bf16.h"
#include "workers/compress/binarize.h"
#include "workers/compress/codebook.h"
#include "workers/compress/layer.h"
#include "workers/compress/quantize_asymmetric.h"
#include "workers/compress/quantize_groups.h"

namespace kerf::compress {
namespace {

using graph::Graph;
using graph::Node;
using graph::Tensor;

Result<void> share(const LayerPlan& plan, Graph& graph, Node& node) {
  const bool pruned = plan.prune.ratio > 0 && plan.prune.structure != "channel";
  KERF_ASSIGN(SharedWeights shared,
              share_weights(graph.initializers.at(node.inputs[1]), plan.codebook.entries,
                            plan.codebook.init, pruned));
  set_constant(graph, node, 1, std::move(shared.weights));
  node.attributes["kerf_shared_values"] = static_cast<std::int64_t>(shared.entries.size());
  return {};
}

Result<QuantizedWeights> integers_of(const LayerPlan& plan, const Tensor& weights,
                                     std::size_t axis) {
  const bool per_channel = plan.granularity == "channel" && plan.codebook.entries == 0;
  if (plan.weight_bits == 1) return binarize(weights, axis, per_channel);
  if (plan.weight_bits == kTernaryBits) return ternarize(weights, axis, per_channel);
  const WeightQuantization how{plan.weight_bits, per_channel, plan.weight_range};
  // Integer kernels take weights whose zero point is 0: `symmetric` is about the activations there.
  const bool symmetric = plan.symmetric || plan.activation_bits <= 8;
  const std::int64_t group = group_of(plan.granularity);
  // A group that holds a whole channel is the channel.
  if (group > 0 && group < weights.dim(1 - axis)) {
    return quantize_groups(weights, axis, group, symmetric, how);
  }
  WeightQuantization whole = how;
  whole.per_channel = per_channel || group > 0;
  return symmetric ? quantize_weights(weights, axis, whole)
                   : quantize_asymmetric(weights, axis, whole);
}

Result<std::optional<QuantizedLayer>> represent(const LayerPlan& plan, Graph& graph, Node& node) {
  if (plan.codebook.entries > 0) KERF_TRY(share(plan, graph, node));
  if (plan.weight_bits == 16 && !make_bf16(graph, node.name)) {
    return internal_error("its weights aren't constant");
  }
  if (plan.weight_bits > 8) return std::optional<QuantizedLayer>();
  QuantizedLayer out;
  KERF_ASSIGN(out.weights, integers_of(plan, graph.initializers.at(node.inputs[1]),
                                       output_channel_axis(node)));
  out.bits = plan.weight_bits == kTernaryBits ? 2 : plan.weight_bits;
  if (plan.activation_bits == 8) {
    out.input = plan.activation_range == "dynamic" ? InputForm::kDynamic : InputForm::kStatic;
  } else if (plan.activation_bits == 1) {
    out.input = InputForm::kSign;
  } else if (plan.activation_bits == 16) {
    for (float& scale : out.weights.scales) {
      scale = graph::bf16_to_f32(graph::f32_to_bf16(scale));
    }
    node.attributes["kerf_precision"] = std::string("bf16");
  }
  return std::optional(std::move(out));
}

}  // namespace

std::int64_t group_of(const std::string& granularity) {
  constexpr std::string_view kPrefix = "group:";
  return granularity.starts_with(kPrefix) ? std::stoll(granularity.substr(kPrefix.size())) : 0;
}

Result<std::optional<QuantizedLayer>> represent_weights(const std::string& layer,
                                                        const LayerPlan& plan, Graph& graph) {
  Node* node = find_node(graph, layer);
  if (node == nullptr) return internal_error("layer '" + layer + "' is gone");
  auto out = represent(plan, graph, *node);
  if (!out.has_value()) return with_context("layer '" + layer + "'", out.error());
  return out;
}

}  // namespace kerf::compress
