#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "core/result.h"
#include "workers/graph/tensor.h"

namespace kerf::compress {

struct WeightQuantization {
  int bits = 8;                  ///< 8…2.
  bool per_channel = true;       ///< One scale for each output channel, else one for the tensor.
  std::string range = "minmax";  ///< "minmax", "percentile", "entropy", "mse".
};

struct QuantizedWeights {
  graph::Tensor values;       ///< s8, the shape of the weights; |v| ≤ 2^(bits−1) − 1.
  std::vector<float> scales;  ///< One for each output channel, or one; never 0, never NaN.
  std::vector<std::int8_t> zeros;  ///< One for each scale; empty = all 0.
  std::int64_t group = 0;          ///< Weights a scale along the input axis (quantize_groups.h); 0 = all.
};

/// Rounds weights to signed integers, symmetrically.
///
/// Shapes:   `axis`: that of the output channels.
/// Units:    real = scale · integer.
/// Maths:    q = clamp(round(w / s), −Q, Q), ties to even, Q = 2^(bits−1) − 1, s = T / Q. The
/// threshold
///           T of each scale's weights:
///           minmax      max |w|
///           percentile  the 99.9th percentile of |w| (linear between order statistics)
///           mse         the T that minimises Σ (w − s·q)², searched on 48 points between max |w| /
///           20
///                       and max |w|, then on 16 around the best
///           entropy     as mse: a divergence of histograms needs more elements than a channel has
///           Weights that are all zero get scale 1; scales aren't below the least normal float.
/// Errors:   invalid_argument with the index of a weight that is not finite.
/// Cost:     minmax two passes; mse 66.
/// Source:   Wu et al. 2020, arXiv:2004.09602 (symmetric, per channel, −2^(bits−1) stays unused);
///           Banner et al. 2019, arXiv:1810.05723 (clipping that minimises the squared error).
[[nodiscard]] Result<QuantizedWeights> quantize_weights(const graph::Tensor& weights,
                                                        std::size_t axis,
                                                        const WeightQuantization& how);

/// scale · (integer − zero point), as f32.
[[nodiscard]] graph::Tensor dequantize(const QuantizedWeights& weights, std::size_t axis);

/// The p-th percentile of values ≥ 0, linear between order statistics; reorders them.
[[nodiscard]] float percentile(std::vector<float>& values, double p);

}  // namespace kerf::compress
