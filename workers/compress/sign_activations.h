#pragma once

#include "workers/compress/histogram.h"

namespace kerf::compress {

/// The scale of a value that is read as signs.
///
/// Maths:    x ≈ s · sign(x) with sign(0) = 0, as ONNX's Sign has it: s = mean of |x| over x ≠ 0, which
///           is what is nearest to x of all such products. One number stands for XNOR-Net's K, the mean
///           of |x| under each window. Zeros stay zeros, so that what a Relu let through is told from
///           what it didn't.
/// Edge:     1 where nothing but zeros was seen; not below the least normal float.
/// Source:   Rastegari et al. 2016, "XNOR-Net", arXiv:1603.05279, section 3.2.
[[nodiscard]] float sign_scale(const ValueStatistics& statistics);

}  // namespace kerf::compress
