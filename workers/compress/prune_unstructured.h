#pragma once

#include <cstddef>
#include <string>

#include "workers/graph/tensor.h"

namespace kerf::compress {

/// Sets the smallest weights of a tensor to zero.
///
/// Maths:    exactly round(ratio · n) of n elements are zeroed: those of the smallest |w|, of equal
///           ones the lower index. Weights that are zero already count among them.
/// Cost:     linear.
/// Source:   Han et al. 2015, arXiv:1506.02626.
[[nodiscard]] graph::Tensor prune_by_magnitude(const graph::Tensor& weights, double ratio);

/// Keeps n of each m weights that follow one another along the input axis.
///
/// Shapes:   axis: of the input channels (1 for Conv and a transposed Gemm, else 0).
/// Maths:    of each group those of the largest |w| stay, of equal ones the lower index; a last
/// group
///           of fewer than m keeps at most n.
/// Source:   Mishra et al. 2021, arXiv:2104.08378 (2:4).
[[nodiscard]] graph::Tensor prune_n_of_m(const graph::Tensor& weights, std::size_t axis, int n,
                                         int m);

/// n and m of a structure "n:m"; m = 0 where it is none.
struct NOfM {
  int n = 0;
  int m = 0;
};
[[nodiscard]] NOfM n_of_m(const std::string& structure);

/// Share of elements that are zero; 0 for an empty tensor.
[[nodiscard]] double zero_share(const graph::Tensor& weights);

}  // namespace kerf::compress
