#include "workers/compress/reestimate_norms.h"

#include <algorithm>
#include <cmath>

#include "workers/compress/bias_correction.h"
#include "workers/compress/layer.h"
#include "workers/compress/layer_walk.h"
#include "workers/engine/executor.h"

namespace kerf::compress {

using graph::Graph;
using graph::Node;
using graph::Tensor;

namespace {

constexpr double kEpsilon = 1e-3;  // of the mean variance of a layer's channels

bool is_finite(const ChannelMoments& moments) {
  const auto finite = [](double value) { return std::isfinite(value); };
  return std::ranges::all_of(moments.mean, finite) && std::ranges::all_of(moments.variance, finite);
}

/// The reference's channels that a layer of the changed graph still has.
ChannelMoments kept(const ChannelMoments& all, const std::vector<std::size_t>& channels) {
  ChannelMoments out;
  for (const std::size_t channel : channels) {
    out.mean.push_back(all.mean[channel]);
    out.variance.push_back(all.variance[channel]);
  }
  return out;
}

ChannelCorrection correction_of(const ChannelMoments& wanted, const ChannelMoments& now,
                                const std::vector<double>& bias, bool scales) {
  const std::size_t channels = now.mean.size();
  double epsilon = 0;
  for (const double variance : wanted.variance) epsilon += kEpsilon * variance / static_cast<double>(channels);
  ChannelCorrection out;
  for (std::size_t c = 0; c < channels; ++c) {
    const double ratio = (wanted.variance[c] + epsilon) / (now.variance[c] + epsilon);
    const bool usable = scales && std::isnormal(static_cast<float>(std::sqrt(ratio)));
    const double factor = usable ? std::sqrt(ratio) : 1.0;
    out.factors.push_back(factor);
    // The new bias is f·(b − m̂) + m.
    out.taken.push_back(bias[c] - (factor * (bias[c] - now.mean[c]) + wanted.mean[c]));
  }
  return out;
}

bool can_be_corrected(const Graph& graph, const Node& node) {
  const bool known = node.op == "Conv" || node.op == "Gemm" || node.op == "MatMul";
  return known && graph.constant(node.inputs[1]) != nullptr && can_take_bias(graph, node) &&
         node.real("alpha", 1.0F) == 1.0F && node.real("beta", 1.0F) == 1.0F;
}

/// What a layer puts out for the input `x`: of a run of the whole graph it would be part, and could not
/// change any more.
Result<Tensor> run_alone(const Graph& graph, const Node& node, const Tensor& x, int threads) {
  Graph alone;
  alone.name = graph.name;
  alone.opset = graph.opset;
  alone.nodes = {node};
  for (std::size_t i = 1; i < node.inputs.size(); ++i) {
    if (const Tensor* constant = graph.constant(node.inputs[i])) alone.initializers[node.inputs[i]] = *constant;
  }
  const graph::ValueInfo* input = graph.value(node.inputs[0]);
  const graph::ValueInfo* output = graph.value(node.outputs[0]);
  alone.inputs = {input != nullptr ? *input : graph::ValueInfo{node.inputs[0], graph::DType::kF32, x.shape()}};
  alone.outputs = {output != nullptr ? *output : graph::ValueInfo{node.outputs[0], graph::DType::kF32, {}}};
  KERF_ASSIGN(std::vector<Tensor> results, engine::run_all(alone, {x}, threads));
  return results[0].to_f32();
}

}  // namespace

ChannelMoments ChannelMoments::of(const Tensor& values, bool channel_last) {
  const std::size_t axis = channel_last ? values.rank() - 1 : 1;
  const auto channels = static_cast<std::size_t>(values.dim(axis));
  std::size_t inner = 1;
  for (std::size_t d = axis + 1; d < values.rank(); ++d) inner *= static_cast<std::size_t>(values.dim(d));
  const auto data = values.as<float>();
  ChannelMoments out{std::vector<double>(channels, 0.0), std::vector<double>(channels, 0.0)};
  if (data.empty()) return out;
  const double each = static_cast<double>(channels) / static_cast<double>(data.size());
  // Two passes: a mean far from zero would take the variance's digits.
  for (std::size_t row = 0; row * inner < data.size(); ++row) {
    double sum = 0;
    for (const float value : data.subspan(row * inner, inner)) sum += static_cast<double>(value);
    out.mean[row % channels] += each * sum;
  }
  for (std::size_t row = 0; row * inner < data.size(); ++row) {
    const double mean = out.mean[row % channels];
    double sum = 0;
    for (const float value : data.subspan(row * inner, inner)) {
      sum += (static_cast<double>(value) - mean) * (static_cast<double>(value) - mean);
    }
    out.variance[row % channels] += each * sum;
  }
  return out;
}

void put_correction(Graph& graph, const std::string& layer, const ChannelCorrection& correction) {
  Node* node = find_node(graph, layer);
  if (node == nullptr) return;
  const bool scaled = std::ranges::any_of(correction.factors, [](double f) { return f != 1.0; });
  if (scaled) {
    Tensor weights = *graph.constant(node->inputs[1]);
    const std::size_t axis = output_channel_axis(*node);
    std::size_t inner = 1;
    for (std::size_t d = axis + 1; d < weights.rank(); ++d) inner *= static_cast<std::size_t>(weights.dim(d));
    const auto values = weights.mutable_as<float>();
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i] = static_cast<float>(static_cast<double>(values[i]) *
                                     correction.factors[i / inner % correction.factors.size()]);
    }
    set_constant(graph, *node, 1, std::move(weights));
  }
  (void)correct_bias(graph, layer, correction.taken);
}

Result<void> reestimate_norms(const Graph& reference, Graph& graph,
                              const std::vector<ReconstructedLayer>& layers,
                              const std::function<bool(const std::string&)>& scales,
                              const Calibration& calibration, const CorrectionMade& made) {
  return walk_layers(reference, graph, layers, calibration,
                     [&](const Node& node, const ReconstructedLayer& layer, bool altered,
                         PartialRun& wanted, PartialRun& now) -> Result<bool> {
    const bool changed = altered || layer.rounded;
    const std::vector<double> bias = bias_of(graph, node, layer.channels.size());
    if (!changed || !can_be_corrected(graph, node) || bias.empty()) return changed;
    KERF_ASSIGN(const Tensor y, wanted.value(node.outputs[0]));
    KERF_ASSIGN(const Tensor x, now.value(node.inputs[0]));
    KERF_ASSIGN(const Tensor own, run_alone(graph, node, x, calibration.threads()));
    const bool last = node.op != "Conv";
    const ChannelMoments target = ChannelMoments::of(y, last);
    const ChannelMoments moments = ChannelMoments::of(own, last);
    const bool fits = target.mean.size() == layer.reference_channels && moments.mean.size() == bias.size();
    if (!fits || !is_finite(target) || !is_finite(moments)) {
      return Error{ErrorCode::kFailedPrecondition,
                   "layer '" + layer.name + "': its values are not finite on the calibration data, or " +
                       "not of the reference's size; its normalization can't be re-estimated"};
    }
    const auto correction = correction_of(kept(target, layer.channels), moments, bias,
                                          scales(layer.name) && !shares_weights(graph, node));
    put_correction(graph, layer.name, correction);
    made(layer.name, correction);
    return true;
  });
}

}  // namespace kerf::compress
