#pragma once

#include <cstddef>
#include <vector>

#include "core/json.h"
#include "search/pareto.h"

namespace kerf::search {

/// What could be found in a made-up table by somebody who knows it.
struct TableLimits {
  double whole = 0;     ///< Hypervolume of the whole front.
  double few = 0;       ///< Of the best `trials` points of it.
  bool exact = false;   ///< Every point was looked at; else a long search with the table open.
};

/// Tables of two objectives that are both minimised, `loss` (bounded by its reference) and `latency`.
///
/// Up to 100,000 points are all looked at. Larger spaces are searched from multipliers' solutions on, by
/// all single changes, random double ones and crossovers of a front of at most 300, until three rounds
/// in a row bring nothing. The best few are chosen greedily and then exchanged while that gains.
[[nodiscard]] TableLimits limits_of(const Json& table, std::size_t trials);

/// Hypervolume of the best `trials` points, chosen with hindsight, of the uniform ones (layers of equally many
/// choices) and those that minimise the sums of what the profile says of each layer, for 400 ratios of loss to
/// latency: what a knapsack over the profile reaches at most that learns nothing from what it measures.
[[nodiscard]] double one_shot_of(const Json& table, std::size_t trials);

}  // namespace kerf::search
