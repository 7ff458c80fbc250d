#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "workers/graph/graph.h"
#include "workers/graph/tensor.h"

namespace kerf::compress {

/// Sets the least important weights of a tensor to zero.
///
/// Shapes:   `importance`: one number a weight (|w| for pruning by magnitude), in its layout.
/// Maths:    exactly round(ratio · n) of n elements are zeroed: the least important, of equal ones the
///           lower index. Weights that are zero already count among them.
/// Cost:     linear.
/// Source:   Han et al. 2015, arXiv:1506.02626.
[[nodiscard]] graph::Tensor prune_least(const graph::Tensor& weights,
                                        std::span<const double> importance, double ratio);
[[nodiscard]] graph::Tensor prune_by_magnitude(const graph::Tensor& weights, double ratio);

/// The same, each output channel by itself: round(ratio · n) of its n weights go.
///
/// Source:   Sun et al. 2024, arXiv:2306.11695: outputs are compared with themselves only.
[[nodiscard]] graph::Tensor prune_least_by_row(const graph::Node& layer, const graph::Tensor& weights,
                                               std::span<const double> importance, double ratio);

/// Keeps n of each m weights that follow one another along the input axis.
///
/// Shapes:   axis: of the input channels (1 for Conv and a transposed Gemm, else 0).
/// Maths:    of each group the most important stay, of equal ones the lower index; a last group of
///           fewer than m keeps at most n.
/// Source:   Mishra et al. 2021, arXiv:2104.08378 (2:4).
[[nodiscard]] graph::Tensor prune_n_of_m(const graph::Tensor& weights,
                                         std::span<const double> importance, std::size_t axis, int n,
                                         int m);
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
