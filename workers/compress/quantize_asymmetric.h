#pragma once

#include <cstddef>

#include "core/result.h"
#include "workers/compress/quantize_weights.h"
#include "workers/graph/tensor.h"

namespace kerf::compress {

/// Rounds weights to integers with a zero point: all 2^bits steps lie between the smallest and the
/// largest weight, however far each is from zero.
///
/// Shapes:   as quantize_weights; a zero point for each scale.
/// Maths:    real = s · (q − z); s = (hi − lo) / (2^bits − 1), z = round(−2^(bits−1) − lo / s) within
///           −2^(bits−1) … 2^(bits−1) − 1, q = clamp(round(w / s) + z), ties to even. lo ≤ 0 ≤ hi, so
///           that zero is exact. The ends:
///           minmax      the smallest and the largest weight
///           percentile  the 0.1st and the 99.9th percentile
///           mse         those that minimise Σ (w − s·(q − z))²: both drawn in alike on 40 points
///                       down to 1/20, then each alone on 16 points around that
///           entropy     as mse (see quantize_weights)
///           Weights that are all zero get scale 1, zero point 0.
/// Errors:   invalid_argument with the index of a weight that is not finite, or where hi − lo is
///           more than half of the largest float.
/// Source:   Jacob et al. 2018, arXiv:1712.05877, section 2.1; Wu et al. 2020, arXiv:2004.09602.
[[nodiscard]] Result<QuantizedWeights> quantize_asymmetric(const graph::Tensor& weights,
                                                           std::size_t axis,
                                                           const WeightQuantization& how);

}  // namespace kerf::compress
