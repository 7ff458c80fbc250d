#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/result.h"
#include "workers/compress/quantize_weights.h"
#include "workers/compress/second_moments.h"
#include "workers/graph/graph.h"

namespace kerf::compress {

/// Integers for some rows of weights that share a Hessian.
///
/// Shapes:   w [rows, n] row-major; hessian [n, n], positive definite; result [rows, n] integers of
///           the grid, and each row's error. Nothing where the hessian isn't positive definite.
/// Maths:    minimises e H eᵀ, e = w − s·(q − z), approximately: with H = RᵀR the columns are rounded one
///           after another, from the largest diagonal of H to the smallest, each to the nearest
///           integer of w_i + Σ_{j done} (R_ij / R_ii) e_j: what the error so far asks of it. This
///           is OBQ's and GPTQ's column-wise compensation written without an inverse (equal to it,
///           integer for integer). Then single integers move by one as long as that lowers the
///           error (coordinate descent, at most kSweeps times through all).
/// Zeros:    where `keep_zeros`, weights that are 0 stay 0 and their neighbours make up for it.
/// Cost:     n³ / 3 for the Cholesky decomposition, then rows · n² · 1.5.
/// Source:   Frantar and Alistarh 2022, arXiv:2208.11580 (OBQ); Frantar et al. 2022,
///           arXiv:2210.17323 (GPTQ); Chen et al. 2025, arXiv:2507.18553 (as nearest-plane).
struct RoundedRows {
  std::vector<std::int8_t> values;
  std::vector<double> errors;
};

/// What integers stand for: value = scale · (integer − zero).
struct RoundingGrid {
  std::vector<double> scales;  ///< One a row, or one a weight [rows, n].
  std::vector<double> zeros;   ///< As many; empty: all 0.
  int lowest = -127, highest = 127;
};

inline constexpr int kSweeps = 4;
[[nodiscard]] RoundedRows round_rows(std::span<const double> w, const RoundingGrid& grid,
                                     std::span<const double> hessian, std::size_t n,
                                     bool keep_zeros, int sweeps = kSweeps);

struct AdaptiveRounding {
  int bits = 8;
  bool keep_zeros = false;     ///< The layer was pruned: zeros are its sparsity.
  bool search_scale = false;   ///< Choose scales by the layer's output error instead of keeping them.
  bool bias_follows = false;   ///< The mean of the output's error will be taken off the bias.
};

/// Rounds a layer's weights again, so that its output on calibration data changes least.
///
/// Shapes:   `quantized`: nearest rounding of `weights`, with scales of any granularity and zero
///           points or none; its integers, and where the scales are searched its scales, are
///           replaced.
/// Maths:    H = mean of x xᵀ (of (x − x̄)(x − x̄)ᵀ where bias_follows) + 1 % of its mean diagonal.
///           Inputs that were always 0 have the 1 % only: their weights are rounded to the nearest.
///           Scales, where searched (one a channel, no zero points): of 12 shares of the given threshold from 0.55 to 1.1 the one
///           with the least error, then the s that fits the integers best.
/// Result:   unchanged where nothing but zeros was seen, or where `moments` has no rows.
/// Errors:   internal where a Hessian isn't positive definite in spite of its damping.
[[nodiscard]] Result<void> round_adaptively(const graph::Node& layer, const graph::Tensor& weights,
                                            const SecondMoments& moments,
                                            const AdaptiveRounding& how,
                                            QuantizedWeights& quantized);

}  // namespace kerf::compress
