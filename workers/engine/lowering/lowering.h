#pragma once

#include "core/result.h"
#include "workers/engine/plan.h"

namespace kerf::engine {

/// A pass of lowering's own (passes.h): layers of signs count bits where that is faster.
inline constexpr const char* kPackSigns = "pack-signs";

/// Turns a prepared graph (prepare.h) into steps.
///
/// `timed`: where two kernels give the same, they are timed against each other (sign_contest.h).
/// Errors:   unimplemented naming a node without a kernel or whose shapes aren't known.
[[nodiscard]] Result<Plan> lower(const graph::Graph& graph, int threads, bool timed = false);

}  // namespace kerf::engine
