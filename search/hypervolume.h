#pragma once

#include <span>
#include <vector>

#include "core/json.h"
#include "core/metric.h"
#include "core/result.h"
#include "core/study.h"
#include "search/pareto.h"

namespace kerf::search {

/// The volume that is dominated by `points` and bounded by `reference`.
///
/// Points that aren't strictly better than the reference in every objective, or aren't rankable,
/// add nothing; dominated and equal points add nothing either.
///
/// Units:    the product of the objectives' units.
/// Cost:     one to three objectives O(n log n); four and more by exclusive volumes (WFG), which
///           takes tens of milliseconds for 1,000 points of four objectives.
/// Threads:  reentrant. Throws std::invalid_argument where the sizes of directions, reference and
///           points disagree, or the reference isn't finite: a bug of the caller.
/// Source:   3-D sweep: Beume, Fonseca et al. 2009; WFG: While, Bradstreet, Barone 2012.
[[nodiscard]] double hypervolume(std::span<const ObjectiveVector> points,
                                 std::span<const Direction> directions,
                                 std::span<const double> reference);

/// What each point of the front alone adds: hypervolume(front) − hypervolume(front without it). Zero
/// for dominated points and for each of two equal ones.
///
/// Cost:     two objectives O(n log n); else one hypervolume of the points limited to the box of
///           each point.
[[nodiscard]] std::vector<double> hypervolume_contributions(
    std::span<const ObjectiveVector> points, std::span<const Direction> directions,
    std::span<const double> reference);

/// The reference point of a study: fixed once, from its baseline's measurement and its bounds, so
/// that hypervolumes of all its trials are comparable.
///
/// Rule, for each objective, the first that applies:
///   1. The metric has a bound on the objective's bad side (max where minimised, min where
///      maximised): the bound.
///   2. `accuracy` maximised, with a bound `accuracy_drop` max: the baseline's accuracy − the bound.
///      `accuracy_drop` minimised, with a bound `accuracy` min: the baseline's accuracy − the bound.
///   3. Shares maximised (accuracy, top5, agreement) and sqnr_db: 0.
///   4. `accuracy_drop` minimised: the baseline's accuracy where it is known, else 1.
///   5. Errors minimised (mae, rmse, cross_entropy): twice the baseline's. A tenth more, as of costs, is less than a few bits
///      add to what a well-trained model has, and such a model's cheap candidates would count for nothing.
///   6. Otherwise minimised: 1.1 × the baseline's value, maximised: the value / 1.1. Where that
///      value is 0 (kl, cross_entropy_rise, recovery_seconds): 1 nat, 600 s, else 1.
/// A reference of 1 or 2 that just equals the baseline's own value would leave a candidate as good
/// as the baseline without any volume; it is moved to the bad side by a tenth of the value's size,
/// or by 0.01 for a share.
///
/// Errors:   failed_precondition naming an objective that the baseline's measurement lacks
///           (energy where no meter is readable).
[[nodiscard]] Result<std::vector<double>> reference_point(const StudyDefinition& study,
                                                          const Json& baseline_measurement);

}  // namespace kerf::search
