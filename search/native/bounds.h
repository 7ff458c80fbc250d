#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "search/native/told.h"

namespace kerf::search::native {

/// A constraint that is an objective's bound: g = slope·objective + constant, of minimised objectives.
struct Bound {
  std::size_t objective = 0;
  double slope = 1;
  double constant = 0;
};

/// Which constraints are bounds on objectives, as the trials show them: such a one needs no surrogate of
/// its own. One a constraint.
[[nodiscard]] std::vector<std::optional<Bound>> find_bounds(std::span<const Told> told, std::size_t objectives,
                                                            std::size_t constraints);

}  // namespace kerf::search::native
