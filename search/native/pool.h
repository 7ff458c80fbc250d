#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "search/native/outlook.h"
#include "search/native/told.h"
#include "search/pareto.h"

namespace kerf::search::native {

/// Points that could gain: solutions of the models, trials, and all that differ from those in one dimension
/// (in two, for two objectives).
struct Pool {
  /// A base, or one with one dimension changed.
  struct Entry {
    std::uint32_t base = 0;
    std::int32_t dimension = -1;
    std::int32_t value = 0;
  };
  std::vector<Choices> bases;
  std::vector<Entry> entries;
  std::vector<ObjectiveVector> values;  ///< As predicted, one an entry.
  std::vector<double> violations;       ///< As predicted, one an entry.

  [[nodiscard]] Choices at(const Entry& entry) const;
};

/// What a pool is made of.
struct PoolInput {
  const Outlook& outlook;
  std::span<const Told> told;
  const std::vector<double>& reference;       ///< Of minimised objectives.
  const std::vector<double>& spans;           ///< Of objectives: from the best to the reference.
  const std::vector<ObjectiveVector>& reached; ///< What was found, as the models see it.
};

/// How far a neighbour's prediction may be off, in spans, for it to be left in the pool.
inline constexpr double kNeighbourShift = 0.02;

/// Cost:     a few hundred programs along the chain, and O(bases·values·models) for the neighbours.
[[nodiscard]] Pool make_pool(const PoolInput& input);

}  // namespace kerf::search::native
