#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "workers/compress/histogram.h"
#include "workers/compress/second_moments.h"
#include "workers/graph/graph.h"

namespace kerf::compress {

/// What the change of a layer's weights adds to each output channel on average.
///
/// Maths:    Δ[o] = Σ_{i,k} E[x_{i,k}] · (W'[o,i,k] − W[o,i,k]), where E[x_{i,k}] is the mean, over
/// the
///           calibration samples and all output positions, of what the kernel's tap k sees of input
///           channel i: padding included, so that for this input Δ is exactly E[y'] − E[y].
///           The inputs are those of the f32 model: errors of the layers before it aren't part of
///           Δ.
/// Needs:    Conv, Gemm or MatMul with 2-D weights; `input`: statistics of its data input.
/// Result:   nullopt for any other layer, and where the shapes aren't known.
/// Source:   Nagel et al. 2019, arXiv:1906.04721, section 4.2 (their equation 16), with E[x] from
/// data.
[[nodiscard]] std::optional<std::vector<double>> mean_output_error(const graph::Graph& graph,
                                                                   const graph::Node& layer,
                                                                   const graph::Tensor& before,
                                                                   const graph::Tensor& after,
                                                                   const ValueStatistics& input);

/// The same from second moments of what the layer reads: exact for the rows that they were taken of.
///
/// Needs:    moments of this layer's input (moments.depth columns a row of its weights).
[[nodiscard]] std::vector<double> mean_change(const graph::Node& layer, const graph::Tensor& before,
                                              const graph::Tensor& after,
                                              const SecondMoments& moments);

/// A pruned layer's weights in the shape that they had before its channels went.
///
/// Shapes:   `kept`: for an axis of `whole` that was cut, which of its entries are still there;
///           `reduced`: the weights without the others.
/// Result:   `reduced` where every index is kept; 0 where an input channel went; `whole` where an
/// output
///           channel went (there is nothing to correct there).
[[nodiscard]] graph::Tensor spread_weights(const graph::Tensor& whole, const graph::Tensor& reduced,
                                           std::size_t output_axis,
                                           const std::map<std::size_t, std::vector<bool>>& kept);

/// Whether correct_bias can give the layer a bias.
[[nodiscard]] bool can_take_bias(const graph::Graph& graph, const graph::Node& layer);

/// Subtracts `error` from a layer's bias, which it gets where it has none (a MatMul of a 2-D value
/// becomes a Gemm). False, with nothing changed, where the layer can't take a bias or an element of
/// `error` is not finite.
[[nodiscard]] bool correct_bias(graph::Graph& graph, const std::string& layer,
                                const std::vector<double>& error);

}  // namespace kerf::compress
