#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/result.h"
#include "workers/graph/tensor.h"

namespace kerf::compress {

/// Weights that share few values.
struct SharedWeights {
  graph::Tensor weights;       ///< f32, the shape of the weights; every element is an entry.
  std::vector<float> entries;  ///< Ascending, no two equal; may be fewer than were asked for.
};

/// Replaces each weight by the nearest of at most `entries` values, which k-means chooses.
///
/// Maths:    Lloyd's algorithm on one axis: weights in order, a cluster is a run of them that ends
///           half way between two centroids (a tie goes to the lower one), a centroid is the mean of
///           its run. It ends where no border moves, or after 200 rounds. A centroid without weights
///           goes to the weight that is farthest from its own. As many distinct weights as entries
///           or fewer: every weight stays as it is.
///           Start: linear, evenly between the smallest and the largest weight; density, at evenly
///           spaced ranks; random, at ranks drawn without repetition from a fixed seed.
///           `keep_zeros`: weights that are 0 stay 0, which is an entry of its own; what was pruned
///           stays pruned.
/// Errors:   invalid_argument with the index of a weight that is not finite.
/// Cost:     n log n for the order, then entries · log n a round.
/// Source:   Han, Mao, Dally 2016, "Deep Compression", arXiv:1510.00149, section 3; Lloyd 1982.
[[nodiscard]] Result<SharedWeights> share_weights(const graph::Tensor& weights, int entries,
                                                  const std::string& init, bool keep_zeros);

}  // namespace kerf::compress
