#pragma once

#include <string>

#include "workers/compress/histogram.h"
#include "workers/graph/tensor.h"

namespace kerf::compress {

/// Scale and zero point of a quantized value: real = scale · (integer − zero_point).
struct ActivationRange {
  graph::DType dtype = graph::DType::kU8;  ///< kU8 or kS8.
  float scale = 1;                         ///< Never 0, never NaN.
  int zero_point = 0;

  friend bool operator==(const ActivationRange&, const ActivationRange&) = default;
};

/// Chooses the range of a value from what was seen of it.
///
/// Types:    u8 with zero point 0 where nothing negative was seen (255 steps from 0 to T); else s8
/// with
///           zero point 0 (127 steps from 0 to T = the threshold of |x|); else, where `symmetric`
///           is false, u8 with the zero point at round(−lo / scale), 255 steps from lo to hi.
/// Maths:    minmax      T = max |x|
///           moving_average  T = the moving average of each sample's max |x| (moving_range.h); not
///                       symmetric: of its two ends
///           percentile  P(|x| ≤ T) = 99.999 %; not symmetric: 0.001 % beyond each end
///           entropy     the T that minimises KL(P ‖ Q): P the histogram up to T with what lies
///                       beyond added to its last bin, Q the same histogram without that, averaged
///                       over the non-empty bins of each of L levels (L = 128 for s8, 256 for u8);
///                       2048 bins; where Q has nothing and P has, Q counts as 1e-9. Only
///                       thresholds whose squared error (as for mse) isn't above that of max |x|
///                       are tried: the divergence doesn't see how far values move, and where many
///                       are equal it would clip far more than rounding costs
///           mse         the T that minimises n(|x| ≤ T) · step² / 12 + Σ_{|x| > T} (|x| − T)²:
///                       rounding errors as uniform, clipping errors from the histogram; every bin
///                       edge is tried
///           Exact zeros have no error and count only for the percentile. Not symmetric: entropy
///           cuts both ends at the symmetric threshold, mse minimises over a grid of both ends.
/// Edge:     a value that was always 0 gets u8, scale 1.
/// Source:   Jacob et al. 2018, arXiv:1712.05877 (moving average); Migacz 2017, "8-bit Inference with TensorRT" (entropy); Banner et al. 2019,
///           arXiv:1810.05723 (mse); Wu et al. 2020, arXiv:2004.09602 (percentile).
[[nodiscard]] ActivationRange choose_range(const ValueStatistics& statistics,
                                           const std::string& range, bool symmetric);

}  // namespace kerf::compress
