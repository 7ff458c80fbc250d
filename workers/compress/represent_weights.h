#pragma once

#include <optional>
#include <string>

#include "core/plan.h"
#include "core/result.h"
#include "workers/compress/insert_qdq.h"
#include "workers/graph/graph.h"

namespace kerf::compress {

/// Gives a layer's weights the form that its plan names: shared values, bf16, or integers.
///
/// Shared values and bf16 change the constant in `graph` (other readers of it keep theirs) and mark
/// the node: kerf_shared_values = number of values, kerf_precision = "bf16". Integers are returned
/// for insert_qdq, and `graph` keeps the f32 weights; nullopt where the plan asks for none.
///
/// Shared values that become integers get one scale for the layer: their integers are shared as the
/// values were. Signs and thirds (1, "ternary") of a layer with 16-bit activations get scales that
/// bf16 holds exactly, and the layer runs in bf16.
///
/// Errors:   what the technique says, with the layer's name in front.
[[nodiscard]] Result<std::optional<QuantizedLayer>> represent_weights(const std::string& layer,
                                                                      const LayerPlan& plan,
                                                                      graph::Graph& graph);

/// N of granularity "group:N"; 0 for another.
[[nodiscard]] std::int64_t group_of(const std::string& granularity);

}  // namespace kerf::compress
