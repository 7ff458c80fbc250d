#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace kerf::compress {

/// How far two sets of outputs are apart: E = tr((W − W') G (W − W')ᵀ), with G the second moments
/// (or the covariance, where a bias makes up for the mean) of the inputs. An empty G is the
/// identity: plain squared error of the weights.
using Gram = std::span<const double>;

/// How many ranks a factorization keeps: the fewest whose eigenvalues sum up to `energy` of all, and
/// at most `most`.
struct RankChoice {
  std::size_t most = 1;
  double energy = 1;

  RankChoice(std::size_t ranks) : most(ranks) {}  // NOLINT(google-explicit-constructor): a plain number is a choice
  RankChoice(std::size_t full, double kept) : most(full), energy(kept) {}

  /// At least 1. `eigenvalues` fall; what rounding made negative counts as 0.
  [[nodiscard]] std::size_t of(std::span<const double> eigenvalues) const;
};

/// W' = second · first.
struct Factors {
  std::size_t rank = 0;
  std::vector<double> first;   ///< [rank, columns]
  std::vector<double> second;  ///< [rows, rank]
};

/// The W' of the given rank with the least E.
///
/// Shapes:   w [rows, columns], gram [columns, columns] or empty; 1 ≤ rank.most ≤ min(rows, columns).
/// Maths:    with U the leading eigenvectors of W G Wᵀ: second = U, first = UᵀW (a truncated SVD for
///           G = I, reduced-rank regression else). Where columns < rows the same subspace is found
///           from RWᵀWRᵀ, G = RᵀR. The eigenvalues are those of W G Wᵀ: each is the E that its rank
///           saves. Each row of `first` and column of `second` then get the same
///           norm, so that neither is hard to quantize.
/// Source:   Eckart and Young 1936; Izenman 1975 (reduced-rank regression).
[[nodiscard]] Factors factorize(std::span<const double> w, std::size_t rows, std::size_t columns,
                                Gram gram, RankChoice rank);

/// The B with the least E for W' = B·F, F given: B = W G Fᵀ (F G Fᵀ)⁻¹, with 1e-6 of its mean
/// diagonal added to the inverted matrix.
///
/// Shapes:   w [rows, columns], f [height, columns]; result [rows, height].
[[nodiscard]] std::vector<double> regress(std::span<const double> w, std::size_t rows,
                                          std::size_t columns, Gram gram,
                                          std::span<const double> f, std::size_t height);

/// F G Fᵀ [height, height]; F Fᵀ for an empty G.
[[nodiscard]] std::vector<double> projected(Gram gram, std::span<const double> f,
                                            std::size_t height, std::size_t columns);

/// The size of a convolution's weights [outputs, inputs, high, wide].
struct KernelShape {
  std::size_t outputs = 1, inputs = 1, high = 1, wide = 1;
  [[nodiscard]] std::size_t columns() const { return inputs * high * wide; }
};

/// A convolution as two: first [rank, inputs, high, 1], second [outputs, rank, 1, wide].
///
/// Maths:    the weights as a matrix [(output, x), (input, y)], factorized with the moments of one
///           column of the kernel; then `second` is fitted anew to the whole kernel's (regress).
/// Source:   Jaderberg, Vedaldi and Zisserman 2014, arXiv:1405.3866.
[[nodiscard]] Factors factorize_spatial(std::span<const double> w, const KernelShape& shape,
                                        Gram gram, RankChoice rank);

/// A convolution as three: 1×1 [rank_in, inputs], core [rank_out, rank_in, high, wide], 1×1
/// [outputs, rank_out].
///
/// Maths:    the input side from the unfolding [(output, y, x), input], with the moments of single
///           inputs; then core and output side together by factorize() on what it lets through
///           (sequentially truncated HOSVD where G = I).
/// Source:   Kim et al. 2016, arXiv:1511.06530; Vannieuwenhoven et al. 2012.
struct TuckerFactors {
  std::size_t rank_in = 0, rank_out = 0;
  std::vector<double> input, core, output;
};
[[nodiscard]] TuckerFactors factorize_tucker(std::span<const double> w, const KernelShape& shape,
                                             Gram gram, RankChoice rank_in, RankChoice rank_out);

/// The kernels that the factors stand for, [outputs, inputs · high · wide].
[[nodiscard]] std::vector<double> compose(const Factors& factors, std::size_t rows,
                                          std::size_t columns);
[[nodiscard]] std::vector<double> compose_spatial(const Factors& factors, const KernelShape& shape);
[[nodiscard]] std::vector<double> compose_tucker(const TuckerFactors& factors,
                                                 const KernelShape& shape);

}  // namespace kerf::compress
