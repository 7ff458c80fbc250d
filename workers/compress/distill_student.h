#pragma once

#include <string>
#include <vector>

#include "core/result.h"
#include "workers/compress/calibration.h"
#include "workers/compress/input_ranges.h"
#include "workers/compress/model.h"
#include "workers/compress/plan_resolution.h"
#include "workers/compress/watch.h"
#include "workers/graph/graph.h"

namespace kerf::compress {

/// The name of a distilled model's activation statistics. They are never kept: where the time ran
/// out, the same plan gives other weights.
inline constexpr const char* kDistilled = "distilled";

/// Statistics for a distilled model, which are nobody else's: its ranges come from as many samples as the
/// model's own, since its training took seconds.
[[nodiscard]] Calibration calibration_of_distilled(const PreparedModel& model, const Calibration& calibration);

/// Trains a pruned and factorized model with the rounding of the plan in place, and gives it its best
/// weights; see distill().
///
/// `base` is the f32 model that is followed, with the names of the prepared one; `keep` says which
/// channels `student` has. What a user should know goes to `notes`.
///
/// Errors:   those of distill().
[[nodiscard]] Result<void> distill_student(const PreparedModel& model, const graph::Graph& base,
                                           const ResolvedPlan& plan, const std::vector<bool>& keep,
                                           const Calibration& calibration, const Watch& watch,
                                           graph::Graph& student, InputRanges& ranges,
                                           std::vector<std::string>& notes);

}  // namespace kerf::compress
