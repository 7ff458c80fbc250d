#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "core/metric.h"

namespace kerf::search {

/// One value an objective, in the study's order and units.
using ObjectiveVector = std::vector<double>;

/// Whether all values are there and finite. What isn't never ranks: it dominates nothing and is on
/// no front.
[[nodiscard]] bool rankable(std::span<const double> objectives, std::size_t expected);

/// Whether every g ≤ 0. A g that isn't finite is a bound that isn't kept.
[[nodiscard]] bool feasible(std::span<const double> constraints);

/// What a bound's g is divided by before it is added to others': its size, so that 10 % over a latency
/// in µs and 10 % over a share weigh the same; 1 for a bound of 0 (a drop of 0.05 is 5 %).
[[nodiscard]] double bound_scale(double bound);

/// How far a candidate is from feasible: the sum of g / scale over all g > 0; infinite where a g isn't
/// finite. `scales` has one a g (bound_scale), or is empty where all of them have the same unit.
[[nodiscard]] double violation(std::span<const double> constraints, std::span<const double> scales = {});

/// Whether `a` is nowhere worse than `b` and somewhere better. Equal points don't dominate each
/// other; a vector that isn't rankable neither dominates nor is dominated.
[[nodiscard]] bool dominates(std::span<const double> a, std::span<const double> b,
                             std::span<const Direction> directions);

/// The points that no other point dominates, as ascending indices. Points that aren't rankable are
/// left out; of equal points all are kept.
///
/// Cost:     O(n log n) for one and two objectives; beyond that O(n log n + n·f·d) for a front of f
///           points (each is compared with the front so far, after sorting by the first objective).
/// Threads:  reentrant.
/// Source:   Kung, Luccio, Preparata 1975 (the sweep in two dimensions).
[[nodiscard]] std::vector<std::size_t> non_dominated(std::span<const ObjectiveVector> points,
                                                     std::span<const Direction> directions);

/// A measured candidate.
struct Candidate {
  ObjectiveVector objectives;
  std::vector<double> constraints;  ///< g ≤ 0 is feasible; empty = nothing to keep.
};

/// What a set of candidates offers.
struct Selection {
  std::vector<std::size_t> front;           ///< Non-dominated among the feasible; ascending.
  std::optional<std::size_t> nearest_miss;  ///< Least violation; set only where nothing is feasible.
  double least_violation = 0;               ///< Of nearest_miss.
};

/// Feasible first: only feasible candidates make a front; where there are none, the nearest miss
/// is named (ties: the one that comes first). `scales` as in violation().
[[nodiscard]] Selection select(std::span<const Candidate> candidates,
                               std::span<const Direction> directions,
                               std::span<const double> scales = {});

/// A point whose values are known up to an interval (a 95 % one, usually); lo ≤ value ≤ hi.
struct UncertainPoint {
  ObjectiveVector objectives;
  std::vector<std::array<double, 2>> intervals;  ///< One an objective; empty = all exact.
};

/// Dominance that survives the noise: in every objective the difference in favour of `a` is at
/// least as large as the interval of the difference, and somewhere it is larger.
///
/// Maths:    for minimised values, a beats b by b − a, whose lower limit is
///           (b − a) − sqrt((b − lo_b)² + (hi_a − a)²); all limits ≥ 0 and one > 0. With exact
///           values this is dominates().
/// Source:   the limits of a difference from two single intervals (MOVER): Zou and Donner 2008;
///           Newcombe 1998 for shares such as accuracy.
[[nodiscard]] bool surely_dominates(const UncertainPoint& a, const UncertainPoint& b,
                                    std::span<const Direction> directions);

/// The points that no other point surely dominates, ascending. A superset of non_dominated().
///
/// Cost:     O(n²·d).
[[nodiscard]] std::vector<std::size_t> possibly_non_dominated(
    std::span<const UncertainPoint> points, std::span<const Direction> directions);

}  // namespace kerf::search
