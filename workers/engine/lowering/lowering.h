#pragma once

#include "core/result.h"
#include "workers/engine/plan.h"

namespace kerf::engine {

/// Turns a prepared graph (prepare.h) into steps.
///
/// Errors:   unimplemented naming a node without a kernel or whose shapes aren't known.
[[nodiscard]] Result<Plan> lower(const graph::Graph& graph, int threads);

}  // namespace kerf::engine
