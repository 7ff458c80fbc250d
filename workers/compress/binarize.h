#pragma once

#include <cstddef>

#include "core/result.h"
#include "workers/compress/quantize_weights.h"
#include "workers/graph/tensor.h"

namespace kerf::compress {

/// Weights as signs with a scale: −1 or +1, the scale the mean of |w|, which is what is nearest to w
/// of all such products.
///
/// Shapes:   `axis`: of the output channels; one scale for each, or (not per_channel) one.
/// Maths:    q = 1 where w ≥ 0, else −1; s = mean |w|. Where that mean is below the least normal
///           float (all weights 0, or denormal) the integers are 0 and the scale 1.
/// Errors:   invalid_argument with the index of a weight that is not finite.
/// Source:   Rastegari et al. 2016, "XNOR-Net", arXiv:1603.05279, section 3.1.
[[nodiscard]] Result<QuantizedWeights> binarize(const graph::Tensor& weights, std::size_t axis,
                                                bool per_channel);

/// Weights as −1, 0 or +1 with a scale.
///
/// Maths:    Δ = 0.7 · mean |w|; q = sign(w) where |w| > Δ, else 0; s = mean of |w| over |w| > Δ.
///           Where nothing is above Δ or s is below the least normal float: zeros, scale 1.
/// Errors:   as above.
/// Source:   Li, Liu 2016, "Ternary Weight Networks", arXiv:1605.04711, equations 5 and 6.
[[nodiscard]] Result<QuantizedWeights> ternarize(const graph::Tensor& weights, std::size_t axis,
                                                 bool per_channel);

}  // namespace kerf::compress
