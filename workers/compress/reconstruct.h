#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "core/result.h"
#include "workers/compress/calibration.h"
#include "workers/compress/second_moments.h"
#include "workers/graph/graph.h"

namespace kerf::compress {

/// What reconstruct() may do with a layer.
struct ReconstructedLayer {
  std::string name;         ///< In the changed graph.
  /// Of each output channel the one of the same value in the reference; empty: the layer's output
  /// has no counterpart there (a first part of a factorized layer) and its weights stay.
  std::vector<std::size_t> channels;
  std::size_t reference_channels = 0;  ///< Of that value in the reference.
  bool keep_zeros = false;     ///< Its zeros are its sparsity.
  bool rounded = false;        ///< Its weights get another form, for which LayerFinal needs moments.
  bool changed = false;        ///< Its own weights aren't those of the reference.
};

/// Called when a layer's weights in f32 are final, with the second moments of what it reads now;
/// may put other weights in (rounded ones). True where it did.
using LayerFinal = std::function<Result<bool>(const std::string& layer, const SecondMoments* moments)>;

/// Fits layer after layer so that its output comes as near to the reference's as its inputs still
/// allow: what pruning, factorizing and rounding before it took is made up for by its own weights.
///
/// Maths:    in the graph's order, for each layer whose own weights or whose inputs have changed:
///           W and b minimise E‖y − W x̂ − b‖² + λ‖W − W₀‖², x̂ = its input in the changed graph (with
///           everything before it fitted already), y = its output in the reference, W₀ = its weights
///           now, λ = 0.001 + 0.02 · columns / rows of the mean diagonal of the inputs' covariance. A layer that can't take a
///           bias is fitted without one. Layers with shared weights stay.
/// Data:     at most kReconstructSamples calibration samples, fewer where activations are large.
/// Result:   weights and biases in `graph` are replaced; layers that LayerInput doesn't describe
///           stay as they are.
/// Cost:     one run of each graph, and for each layer its second moments and one fit.
/// Source:   He, Zhang and Sun 2017, arXiv:1707.06168 (least-squares reconstruction after channel
///           pruning); Hubara et al. 2021, arXiv:2006.10518 (layer by layer, on calibration data).
[[nodiscard]] Result<void> reconstruct(const graph::Graph& reference, graph::Graph& graph,
                                       const std::vector<ReconstructedLayer>& layers,
                                       const Calibration& calibration, const LayerFinal& final);

inline constexpr std::int64_t kReconstructSamples = 512;

/// Samples, kReconstructSamples at most, such that a value of all of them fits into memory.
[[nodiscard]] std::int64_t reconstruct_samples(const graph::Graph& graph);

/// A layer's bias, one a channel; zeros where it has none, empty where it isn't a constant of f32 or has
/// another size.
[[nodiscard]] std::vector<double> bias_of(const graph::Graph& graph, const graph::Node& layer,
                                          std::size_t channels);

/// Whether another node reads the layer's weights too.
[[nodiscard]] bool shares_weights(const graph::Graph& graph, const graph::Node& layer);

}  // namespace kerf::compress
