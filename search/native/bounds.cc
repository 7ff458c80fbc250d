#include "search/native/bounds.h"

#include <algorithm>
#include <cmath>

namespace kerf::search::native {
namespace {

/// The line through the first trial and the one whose objective is furthest from it, if it holds for all.
std::optional<Bound> bound_on(std::span<const Told> told, std::size_t objective, std::size_t constraint) {
  const Told& first = told[0];
  std::size_t other = 0;
  for (std::size_t i = 1; i < told.size(); ++i) {
    if (std::abs(told[i].objectives[objective] - first.objectives[objective]) >
        std::abs(told[other].objectives[objective] - first.objectives[objective])) {
      other = i;
    }
  }
  const double run = told[other].objectives[objective] - first.objectives[objective];
  if (run == 0) return std::nullopt;
  Bound bound;
  bound.objective = objective;
  bound.slope = (told[other].constraints[constraint] - first.constraints[constraint]) / run;
  bound.constant = first.constraints[constraint] - bound.slope * first.objectives[objective];
  if (bound.slope == 0) return std::nullopt;
  const double tolerance = 1e-9 * std::max(1e-12, std::abs(bound.slope * run));
  for (const Told& one : told) {
    const double value = one.objectives[objective];
    const double g = one.constraints[constraint];
    // Of a pruned trial one or the other may not be known.
    if (!std::isfinite(g) || !std::isfinite(value)) continue;
    if (!(std::abs(g - bound.constant - bound.slope * value) <= tolerance)) return std::nullopt;
  }
  return bound;
}

}  // namespace

std::vector<std::optional<Bound>> find_bounds(std::span<const Told> told, std::size_t objectives,
                                              std::size_t constraints) {
  std::vector<std::optional<Bound>> out(constraints);
  if (told.empty()) return out;
  for (std::size_t c = 0; c < constraints; ++c) {
    for (std::size_t o = 0; o < objectives && !out[c]; ++o) out[c] = bound_on(told, o, c);
  }
  return out;
}

}  // namespace kerf::search::native
