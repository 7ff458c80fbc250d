#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace kerf::compress {

/// Adds XᵀX of f32 rows to a matrix of doubles.
///
/// Shapes:   rows [count, columns], row-major; gram [columns, columns].
/// Maths:    gram[i, j] with j ≥ i is complete afterwards; mirror() copies it to the other side once
///           everything was added. Products are summed in f32 over 256 rows, and those sums in
///           double; rows of very large or very small elements are scaled by a power of two first,
///           so that no square overflows or vanishes.
/// Cost:     count · columns² / 2 multiply-adds.
void add_gram(std::span<const float> rows, std::size_t count, std::size_t columns,
              std::span<double> gram);

/// Copies the part above the diagonal to the one below it.
void mirror(std::span<double> matrix, std::size_t n);

/// A = RᵀR, in place: R is the upper triangle, zeros below it.
///
/// Shapes:   a [n, n], row-major, of which the upper triangle is read.
/// Result:   false where A is not positive definite (to rounding) or not finite; `a` is then spoilt.
/// Cost:     n³ / 3 flops, in blocks of 64 rows.
[[nodiscard]] bool cholesky(std::span<double> a, std::size_t n);

/// Solves RᵀR X = B for many right sides at once.
///
/// Shapes:   r [n, n] from cholesky(); b [n, m], row-major, becomes X.
void solve_cholesky(std::span<const double> r, std::size_t n, std::span<double> b, std::size_t m);

/// C += A·B. Shapes: a [n, k], b [k, m], c [n, m], row-major.
void add_product(std::span<const double> a, std::span<const double> b, std::span<double> c,
                 std::size_t n, std::size_t k, std::size_t m);

/// The transpose [columns, rows] of [rows, columns].
[[nodiscard]] std::vector<double> transposed(std::span<const double> a, std::size_t rows,
                                             std::size_t columns);

/// Eigenvalues, largest first, and eigenvectors of a symmetric matrix.
struct Eigen {
  std::vector<double> values;   ///< [n]
  std::vector<double> vectors;  ///< [n, n]: row i belongs to values[i]; orthonormal.
};

/// Shapes:   a [n, n], symmetric.
/// Method:   Householder reduction to tridiagonal form, then implicit QL.
/// Cost:     about 5 n³ flops.
/// Source:   Bowdler, Martin, Reinsch and Wilkinson 1968 (tred2, tql2), as in JAMA.
[[nodiscard]] Eigen eigen_symmetric(std::vector<double> a, std::size_t n);

}  // namespace kerf::compress
