#pragma once

#include <map>
#include <string>

#include "core/result.h"
#include "workers/compress/activation_ranges.h"
#include "workers/compress/calibration.h"
#include "workers/compress/plan_resolution.h"
#include "workers/graph/graph.h"

namespace kerf::compress {

/// What the inputs of integer layers are rounded by, by the value that they read.
struct InputRanges {
  std::map<std::string, ActivationRange> ranges;
  std::map<std::string, float> sign_scales;
};

/// A range for each value that an integer layer reads. Where layers that read the same value ask
/// for different ranges, the first in the model's order is heard: there is one pair a value.
/// `variant`: see Calibration::statistics.
///
/// Errors:   those of Calibration::statistics.
[[nodiscard]] Result<InputRanges> choose_ranges(const ResolvedPlan& plan, const graph::Graph& graph,
                                                const std::string& variant,
                                                Calibration& calibration);

}  // namespace kerf::compress
