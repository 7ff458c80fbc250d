#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/result.h"
#include "workers/compress/calibration.h"
#include "workers/compress/reconstruct.h"
#include "workers/graph/graph.h"

namespace kerf::compress {

/// What makes a layer's outputs spread like the reference's, channel by channel.
struct ChannelCorrection {
  std::vector<double> factors;  ///< Of the weights; never 0, never NaN. Ones where they can't change.
  std::vector<double> taken;    ///< Off the bias, once the weights have their factors.
};

/// Mean and variance of each channel of a layer's output; population variance.
///
/// Shapes:   `values` [samples, channels, …], or […, channels] where `channel_last`.
struct ChannelMoments {
  std::vector<double> mean;
  std::vector<double> variance;

  [[nodiscard]] static ChannelMoments of(const graph::Tensor& values, bool channel_last);
};

/// Multiplies a layer's weights in `graph` (f32, each output channel by its factor) and changes its bias.
void put_correction(graph::Graph& graph, const std::string& layer, const ChannelCorrection& correction);

/// Told of each correction once it is in the graph, in the graph's order.
using CorrectionMade = std::function<void(const std::string& layer, const ChannelCorrection& correction)>;

/// Re-estimates the batch normalizations of a model that was changed: pruning and rounding move the
/// mean and the variance of what they see, while their statistics are still those of the f32 model.
///
/// Maths:    a normalization with statistics μ, σ² puts out γ(z − μ)/σ + β. With those of the changed
///           model, μ̂ and σ̂², it puts out what has the mean β and the deviation γ again. It is folded
///           into its convolution, so the same is done by what comes out of that: with the means m, m̂
///           and the variances v, v̂ of a channel in the reference and in `graph`,
///           f = √((v + ε) / (v̂ + ε)), W ← f·W, b ← f·(b − m̂) + m, ε = 0.001 · the mean of v over
///           the layer's channels: f is 1 where a channel is constant in both.
/// Layers:   Conv, Gemm and MatMul that have a bias or can take one, whose own weights or whose inputs
///           changed; in the graph's order, each seeing what the corrected ones before it give.
///           Weights that several layers share keep f = 1, and so do those of layers for which
///           `scales` is false (one scale for a tensor, shared values).
/// Result:   the corrections are in `graph`, whose weights are f32, rounded ones as they are read.
/// Data:     at most kReconstructSamples calibration samples, fewer where activations are large.
/// Errors:   failed_precondition naming a layer whose values aren't finite; those of engine::run_all.
/// Source:   Ioffe and Szegedy 2015, arXiv:1502.03167 (the normalization); Hubara et al. 2021,
///           arXiv:2006.10518 (its statistics taken anew after rounding, and folded again).
[[nodiscard]] Result<void> reestimate_norms(const graph::Graph& reference, graph::Graph& graph,
                                            const std::vector<ReconstructedLayer>& layers,
                                            const std::function<bool(const std::string&)>& scales,
                                            const Calibration& calibration,
                                            const CorrectionMade& made);

}  // namespace kerf::compress
