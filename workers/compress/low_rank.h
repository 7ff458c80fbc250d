#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/plan.h"
#include "core/result.h"
#include "workers/compress/second_moments.h"
#include "workers/graph/graph.h"

namespace kerf::compress {

/// A layer that was replaced by two or three smaller ones.
struct SplitLayer {
  std::string name;                ///< Of the layer that was there.
  std::vector<std::string> parts;  ///< "<name>.1", "<name>.2" …, in the order that they run.
};

/// The forms of RankSpec that a layer can take; empty where it can't be factorized (a grouped
/// convolution, shared or quantized weights, a matrix of rank 3).
[[nodiscard]] std::vector<std::string> rank_forms(const graph::Graph& graph,
                                                  const graph::Node& layer);

/// Replaces a layer by smaller ones of lower rank.
///
/// Shapes:   svd      Gemm, MatMul: [K → r], [r → O]; Conv: its own kernel to r channels, then 1×1.
///                    Full rank: min(O, I·kh·kw).
///           spatial  Conv 2-D: kh×1 to r channels, then 1×kw. Full rank: min(I·kh, O·kw).
///           tucker   Conv: 1×1 to rI channels, its own kernel to rO, then 1×1; rI and rO are the
///                    share of I and of O.
///           r = max(1, round(share · full rank)), or the fewest that keep the energy (of each
///           unfolding, for tucker). The last part keeps output value and bias.
/// Maths:    factorize.h; where `rank` is data-aware, outputs on calibration data instead of weights
///           decide. With `moments` the bias, where the layer has or takes one, gets what the mean of
///           the outputs loses. Rows of more than SecondMoments::kMostColumns columns are taken
///           without data.
/// Result:   `split` empty, with nothing changed, where `must_save` and the parts wouldn't have fewer
///           weights than the layer. Shapes of the graph are inferred anew.
/// Errors:   invalid_argument naming layer and form that don't go together.
[[nodiscard]] Result<SplitLayer> split_layer(graph::Graph& graph, const std::string& layer,
                                             const RankSpec& rank, const SecondMoments* moments,
                                             bool must_save);

}  // namespace kerf::compress
