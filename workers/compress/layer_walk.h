#pragma once

#include <functional>
#include <vector>

#include "core/result.h"
#include "workers/compress/calibration.h"
#include "workers/compress/partial_run.h"
#include "workers/compress/reconstruct.h"
#include "workers/graph/graph.h"

namespace kerf::compress {

/// Sees a layer of a changed graph, with what has been done to those before it in place.
///
/// `changed`:     whether its input, or the layer itself (ReconstructedLayer::changed), isn't the reference's.
/// `wanted`, `now`: values of the reference and of the graph as it stands, on the same samples.
/// Returns whether its output isn't the reference's.
using LayerVisit = std::function<Result<bool>(const graph::Node& node, const ReconstructedLayer& layer,
                                              bool changed, PartialRun& wanted, PartialRun& now)>;

/// Visits `layers` in the graph's order, on at most kReconstructSamples calibration samples. What
/// the visit changes in `graph` is seen by the layers that follow.
///
/// Errors:   invalid_argument without samples; those of the visit.
[[nodiscard]] Result<void> walk_layers(const graph::Graph& reference, const graph::Graph& graph,
                                       const std::vector<ReconstructedLayer>& layers,
                                       const Calibration& calibration, const LayerVisit& visit);

}  // namespace kerf::compress
