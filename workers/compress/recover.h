#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/result.h"
#include "workers/compress/calibration.h"
#include "workers/compress/insert_qdq.h"
#include "workers/compress/low_rank.h"
#include "workers/compress/model.h"
#include "workers/compress/plan_resolution.h"
#include "workers/compress/reconstruct.h"
#include "workers/graph/graph.h"

namespace kerf::compress {

/// How the weights of layers changed in one step, in the shape that they have now.
struct WeightChange {
  std::optional<graph::Tensor> before;  ///< nullopt: the model's own, with all their channels.
  graph::Tensor after;
};
using WeightChanges = std::map<std::string, WeightChange>;

/// The weights that a layer multiplies by once they have their form.
[[nodiscard]] graph::Tensor weights_as_read(const graph::Graph& graph, const std::string& layer,
                                            const std::optional<QuantizedLayer>& quantized);

/// The layers whose weights aren't those of the base graph any more.
[[nodiscard]] WeightChanges pruned_layers(const graph::Graph& base, const ResolvedPlan& plan,
                                          const graph::Graph& pruned);

/// What the layers of a pruned and factorized graph have in common with the base graph.
[[nodiscard]] std::vector<ReconstructedLayer> layers_to_recover(
    const PreparedModel& model, const graph::Graph& base, const ResolvedPlan& plan,
    const graph::Graph& pruned, const std::vector<bool>& keep,
    const std::map<std::string, SplitLayer>& splits);

/// Fits and rounds layer after layer; see reconstruct(). `pruned` gets the fitted weights, `rounded`
/// those and their forms, with what the mean of the rounding errors adds to outputs taken off the
/// biases. What became integers is returned.
[[nodiscard]] Result<std::map<std::string, QuantizedLayer>> fit_and_round(
    const graph::Graph& base, const std::vector<ReconstructedLayer>& layers,
    const ResolvedPlan& plan, const Calibration& calibration, graph::Graph& pruned,
    graph::Graph& rounded);

/// Re-estimates normalizations, see reestimate_norms(): corrects biases and scales in the rounded
/// model (`rounded` and `quantized`, its integers), and in `pruned`, whose weights aren't rounded.
[[nodiscard]] Result<void> reestimate(const graph::Graph& base,
                                      const std::vector<ReconstructedLayer>& layers,
                                      const ResolvedPlan& plan, const Calibration& calibration,
                                      graph::Graph& pruned, graph::Graph& rounded,
                                      std::map<std::string, QuantizedLayer>& quantized);

}  // namespace kerf::compress
