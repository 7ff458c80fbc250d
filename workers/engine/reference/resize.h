#pragma once

#include <utility>
#include <vector>

#include "workers/engine/reference/kernels.h"

namespace kerf::engine::reference {

/// What Resize does along one axis: for each output index the source indices with their weights
/// (none: it lies outside the crop and takes the extrapolation value).
struct ResizedAxis {
  std::size_t axis = 0;
  std::int64_t in = 0, out = 0;
  std::vector<std::vector<std::pair<std::int64_t, double>>> taps;
};

/// The axes that a Resize changes, in their order. `inputs` as the node has them; of the first only
/// the shape counts, which is given beside.
///
/// Errors:   invalid_argument naming the node where sizes, scales or roi don't fit.
[[nodiscard]] Result<std::vector<ResizedAxis>> resized_axes(const Node& node, const Shape& shape, Inputs inputs);

}  // namespace kerf::engine::reference
