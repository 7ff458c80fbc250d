#pragma once

#include "workers/engine/lowering/values.h"

namespace kerf::engine {

/// Slots for the graph's inputs, in the caller's memory, plain.
///
/// Errors:   failed_precondition naming an input whose shape isn't static.
[[nodiscard]] Result<void> add_graph_inputs(Values& values);

/// Has the graph's outputs written to the caller's memory, plain, after all else was lowered.
[[nodiscard]] Result<void> add_graph_outputs(Values& values);

}  // namespace kerf::engine
