#pragma once

#include <optional>
#include <string>
#include <vector>

#include "workers/graph/tensor.h"

namespace kerf::graph {

/// An Einsum equation: a letter for each axis of each operand and of the output.
struct Einsum {
  std::vector<std::string> inputs;
  std::string output;
};

/// Reads an equation for operands of these ranks. "..." becomes as many letters of its own as the
/// operands have axes to spare, the last ones where operands differ (they broadcast), and stands
/// first in an output that isn't written down.
///
/// Errors:   nullopt where the equation doesn't fit the ranks, or isn't one.
[[nodiscard]] std::optional<Einsum> parse_einsum(const std::string& equation,
                                                 const std::vector<std::size_t>& ranks);

}  // namespace kerf::graph
