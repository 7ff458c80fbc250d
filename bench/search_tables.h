#pragma once

#include <cstdint>

#include "core/json.h"

namespace kerf::search {

/// A made-up problem as a quantized and pruned network poses it.
struct MadeUpTable {
  std::int64_t layers = 20;
  double rank_correlation = 1;  ///< Of the profile's losses with the true ones, over all choices.
  bool three_way = false;       ///< Terms of three layers, which no surrogate here has.
  std::int64_t seed = 0;
  bool reorders_seen = true;    ///< The profile has the reorders too.
};

/// The table, for Table::parse.
///
/// Six choices a layer: f32, s8, s8 with a quarter of the channels gone, 4-bit weights, s8 with half,
/// 4 bits with half. Sensitivities span two orders of magnitude. Neighbours and 1.5 pairs a layer of
/// others interact in the loss, by ±30 and ±15 % of the geometric mean of what both do; a change
/// between f32 and integers costs a reorder. Losses carry 3 % of noise, latencies 1.5 %. The profile
/// has the losses in units of its own, bent by a power and with log-normal errors that give the wanted
/// rank correlation, latencies with errors of 5 % and reorders with log-normal errors of 30 %. It costs
/// what looks at a real network of as many layers and values do: a look at each value and a dozen that
/// serve all layers, at 0.0105 trials each (docs/search.md), 0.65, 1.2 and 2.8 trials at 10, 20 and 50
/// layers.
[[nodiscard]] Json made_up_table(const MadeUpTable& what);

}  // namespace kerf::search
