#include "workers/compress/reconstruct.h"

#include <algorithm>
#include <optional>

#include "workers/compress/bias_correction.h"
#include "workers/compress/layer.h"
#include "workers/compress/layer_input.h"
#include "workers/compress/least_squares.h"
#include "workers/compress/layer_walk.h"

namespace kerf::compress {
namespace {

using graph::Graph;
using graph::Node;
using graph::Tensor;

/// λ over the mean diagonal: little where there are many rows for each column, more as they get few.
double ridge_of(const SecondMoments& moments) {
  return 0.001 + 0.02 * static_cast<double>(moments.depth) /
                     static_cast<double>(std::max<std::int64_t>(1, moments.rows));
}

constexpr std::int64_t kBytes = std::int64_t{256} << 20U;  // of the largest value, for all samples

/// Weights and bias of one layer, fitted to what the reference puts out.
struct Fit {
  std::vector<double> weights;
  std::vector<double> bias_change;
};

Fit fit(const Node& node, const Tensor& weights, const std::vector<double>& bias, bool takes_bias,
        const SecondMoments& moments, bool keep_zeros) {
  Fit out;
  out.weights = weight_matrix(node, weights);
  const std::size_t n = moments.depth;
  const std::size_t rows = moments.outputs;
  out.bias_change.assign(bias.size(), 0.0);
  for (const MomentBlock& block : moments.blocks) {
    std::vector<double> gram = block.gram;
    std::vector<double> cross = block.cross;
    const double* mean = moments.output_mean.data() + block.group * rows;
    double* w = out.weights.data() + block.group * rows * n;
    const double* b = bias.data() + block.group * rows;
    for (std::size_t i = 0; i < n; ++i) {
      // With a bias, what is left of both sides once their means are gone; without, y − b.
      for (std::size_t j = 0; takes_bias && j < n; ++j) gram[i * n + j] -= block.mean[i] * block.mean[j];
      for (std::size_t r = 0; r < rows; ++r)
        cross[i * rows + r] -= block.mean[i] * (takes_bias ? mean[r] : b[r]);
    }
    const std::vector<double> fitted = fit_rows(gram, cross, {w, rows * n}, rows, n, ridge_of(moments), keep_zeros);
    std::copy(fitted.begin(), fitted.end(), w);
    for (std::size_t r = 0; takes_bias && r < rows; ++r) {
      double wanted = mean[r];
      for (std::size_t i = 0; i < n; ++i) wanted -= fitted[r * n + i] * block.mean[i];
      out.bias_change[block.group * rows + r] = b[r] - wanted;
    }
  }
  return out;
}

}  // namespace

std::int64_t reconstruct_samples(const Graph& graph) {
  std::int64_t largest = 1;
  for (const auto& [name, value] : graph.values) {
    graph::Shape shape = value.shape;
    if (!shape.empty()) shape[0] = 1;
    largest = std::max(largest, graph::element_count(shape).value_or(0) * 4);
  }
  return std::clamp<std::int64_t>(kBytes / largest, 1, kReconstructSamples);
}

std::vector<double> bias_of(const Graph& graph, const Node& node, std::size_t channels) {
  std::vector<double> out(channels, 0.0);
  if (!node.has_input(2)) return out;
  const Tensor* bias = graph.constant(node.inputs[2]);
  if (bias == nullptr || bias->dtype() != graph::DType::kF32) return {};
  const auto values = bias->as<float>();
  if (values.size() != 1 && values.size() != channels) return {};
  for (std::size_t i = 0; i < channels; ++i)
    out[i] = static_cast<double>(values[values.size() == 1 ? 0 : i]);
  return out;
}

bool shares_weights(const Graph& graph, const Node& node) {
  return graph.consumers(node.inputs[1]).size() > 1 || graph.is_output(node.inputs[1]);
}

Result<void> reconstruct(const Graph& reference, Graph& graph,
                         const std::vector<ReconstructedLayer>& layers,
                         const Calibration& calibration, const LayerFinal& final) {
  return walk_layers(reference, graph, layers, calibration,
                     [&](const Node& node, const ReconstructedLayer& layer, bool changed,
                         PartialRun& wanted, PartialRun& now) -> Result<bool> {
    const std::string& name = layer.name;
    const auto input = LayerInput::of(graph, node);
    std::optional<SecondMoments> moments;
    const bool fit_it = changed && !layer.channels.empty() && !shares_weights(graph, node);
    if (input && graph.constant(node.inputs[1]) != nullptr && (fit_it || layer.rounded)) {
      KERF_ASSIGN(const Tensor x, now.value(node.inputs[0]));
      const auto items = x.elements() / static_cast<std::int64_t>(input->item_size());
      Tensor y;
      if (fit_it) {
        KERF_ASSIGN(y, wanted.value(node.outputs[0]));
      }
      MomentCollector collector(*input, items,
                                fit_it ? layer.channels : std::vector<std::size_t>(),
                                layer.reference_channels);
      if (!collector.add(x.as<float>(), fit_it ? y.as<float>() : std::span<const float>())) {
        return Error{ErrorCode::kFailedPrecondition,
                     "layer '" + name + "': its values are not finite on the calibration data, or " +
                         "not of the reference's size; it can't be reconstructed"};
      }
      moments = collector.finish();
      const Tensor weights = graph.initializers.at(node.inputs[1]);
      const std::vector<double> bias = bias_of(graph, node, layer.channels.size());
      if (fit_it && moments->blocks.size() == moments->groups && !bias.empty()) {
        const bool takes_bias = can_take_bias(graph, node);
        const Fit result = fit(node, weights, bias, takes_bias, *moments, layer.keep_zeros);
        set_constant(graph, *find_node(graph, name), 1, weights_from(node, weights, result.weights));
        if (takes_bias) (void)correct_bias(graph, name, result.bias_change);
      }
    }
    KERF_ASSIGN(const bool replaced, final(name, moments ? &*moments : nullptr));
    return changed || replaced;
  });
}

}  // namespace kerf::compress
