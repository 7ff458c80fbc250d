#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/plan.h"
#include "core/result.h"
#include "workers/compress/calibration.h"
#include "workers/compress/insert_qdq.h"
#include "workers/compress/second_moments.h"
#include "workers/graph/graph.h"

namespace kerf::compress {

/// Whether the plan rounds the layer's weights by what they do to its output.
[[nodiscard]] bool rounds_adaptively(const LayerPlan& plan);

/// represent_weights(), and where the plan says so the integers rounded again by `moments`.
///
/// `moments`: of the layer's input; null: to the nearest. `bias_follows`: see AdaptiveRounding.
[[nodiscard]] Result<std::optional<QuantizedLayer>> round_layer(graph::Graph& graph,
                                                                const std::string& layer,
                                                                const LayerPlan& plan,
                                                                const SecondMoments* moments,
                                                                bool bias_follows);

/// Layers in parts whose second moments fit into Calibration::kMomentBytes together.
[[nodiscard]] std::vector<std::vector<std::string>> moment_parts(
    const graph::Graph& graph, const std::vector<std::string>& layers);

}  // namespace kerf::compress
