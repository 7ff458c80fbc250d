#pragma once

#include <vector>

#include "search/sampler.h"

namespace kerf::search::native {

/// A finished trial as the native sampler keeps it.
struct Told {
  Choices x;
  std::vector<double> objectives;   ///< Minimised; NaN where a pruned trial didn't come to it.
  std::vector<double> constraints;  ///< g ≤ 0 is feasible; NaN as well.
  double kl = 0;                    ///< As in Observation; NaN: unknown.
  double lean = 0;
  double violation = 0;             ///< Summed; infinite for a pruned trial, which stands for nothing.
};

}  // namespace kerf::search::native
