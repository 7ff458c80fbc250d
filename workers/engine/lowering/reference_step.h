#pragma once

#include "workers/engine/lowering/values.h"
#include "workers/engine/plan.h"
#include "workers/graph/graph.h"

namespace kerf::engine {

/// Runs a node by its plain kernel: the one step that allocates while it runs.
///
/// `inputs`: as the node has them; those of constants hold their values, the others are filled from
/// `input_slots` (-1 for constants and what is left out). `types`: of the outputs that have names,
/// whose slots are `output_slots`.
[[nodiscard]] std::unique_ptr<Step> make_reference_step(graph::Node node, std::vector<graph::Tensor> inputs,
                                                        std::vector<SlotId> input_slots, std::vector<SlotId> output_slots,
                                                        std::vector<std::pair<graph::DType, graph::Shape>> types);

/// Has the node's plain kernel run, on plain floats and integers.
///
/// Errors:   unimplemented naming a node without a kernel, or whose shapes depend on data.
[[nodiscard]] Result<void> lower_reference(Values& values, const graph::Node& node);

}  // namespace kerf::engine
