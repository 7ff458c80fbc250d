#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace kerf::compress {

/// Weights whose outputs come nearest to wanted ones.
///
/// Shapes:   gram [n, n]: mean of x xᵀ; cross [n, rows]: mean of x y; prior [rows, n]; result
///           [rows, n].
/// Maths:    minimises E‖y − W x‖² + λ‖W − prior‖², λ = `ridge` times the mean diagonal of gram: what
///           the data doesn't say stays as it was. All rows at once by Cholesky.
/// Zeros:    where `keep_zeros`, weights that are 0 in the prior stay 0, and each row is fitted with
///           the others, by conjugate gradients from the prior (at most 200 steps, to 1e-9 of the
///           first residual).
/// Result:   the prior where gram is all zeros or something isn't finite.
/// Cost:     n³ / 3 + rows · n²; with zeros rows · n² a step.
[[nodiscard]] std::vector<double> fit_rows(std::span<const double> gram,
                                           std::span<const double> cross,
                                           std::span<const double> prior, std::size_t rows,
                                           std::size_t n, double ridge, bool keep_zeros);

}  // namespace kerf::compress
