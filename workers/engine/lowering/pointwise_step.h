#pragma once

#include "workers/engine/kernels/pointwise.h"
#include "workers/engine/lowering/values.h"

namespace kerf::engine {

/// A pointwise step under construction.
struct PendingPointwise {
  struct Operand {
    Rep rep;
    graph::Shape shape;
  };
  graph::Shape shape;
  std::vector<Operand> operands;
  std::vector<PointStage> stages;
  std::vector<std::string> names;  ///< Of the operands; "" for one that no value is.
};

/// Adds a value, in the form that it was made in first, as the next operand.
[[nodiscard]] Result<void> add_operand(Values& values, PendingPointwise& pending, const std::string& value);

/// Makes the step, which gives `numeric`, in the layout of an operand that has the whole shape and a
/// layout of its own. Bytes to bytes without further operands go by a table.
[[nodiscard]] Result<Rep> emit_pointwise(Values& values, PendingPointwise& pending, const Numeric& numeric, const std::string& name,
                                         const std::string& op);

}  // namespace kerf::engine
