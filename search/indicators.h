#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "core/metric.h"
#include "search/pareto.h"

namespace kerf::search {

/// How far a front is from a reference front, counting only where it is worse.
///
/// Maths:    mean over r in `reference` of the least, over p in `points`, of the Euclidean norm of
///           max(p − r, 0) (minimised). 0 = everything is reached; infinite without points.
/// Units:    the objectives' own; scale them first where they differ.
/// Cost:     O(|points|·|reference|·d).
/// Errors:   throws std::invalid_argument where a point isn't rankable or `reference` is empty.
/// Source:   Ishibuchi, Masuda, Tanigaki, Nojima 2015. It never prefers a dominated front.
[[nodiscard]] double igd_plus(std::span<const ObjectiveVector> points,
                              std::span<const ObjectiveVector> reference,
                              std::span<const Direction> directions);

/// What at least `level` of several runs attained, in two objectives: the front of all points that
/// are weakly dominated by points of that many runs (level 1 = of any run, ⌈n/2⌉ = the median).
/// Sorted by the first objective, best first; empty where so many runs attained nothing together.
///
/// Cost:     O(n log n + n·runs) for n points in all.
/// Errors:   throws std::invalid_argument unless there are two objectives and 1 ≤ level ≤ runs.
/// Source:   Grunert da Fonseca, Fonseca, Hall 2001; the sweep in two dimensions as López-Ibáñez,
///           Paquete, Stützle 2010.
[[nodiscard]] std::vector<ObjectiveVector> attainment_surface(
    std::span<const std::vector<ObjectiveVector>> runs, std::span<const Direction> directions,
    std::size_t level);

}  // namespace kerf::search
