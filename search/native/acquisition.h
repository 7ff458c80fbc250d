#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "search/pareto.h"

namespace kerf::search::native {

/// By how much a point would make the hypervolume of a set grow; all values are minimised.
///
/// One and two objectives exactly. Three and four on points of a Halton sequence between the best
/// values and the reference, and where those no longer tell (a gain below one in a thousand of the
/// volume), exactly for as many as time allows.
class GainOracle {
 public:
  /// `best` bounds from below what candidates reach.
  GainOracle(std::vector<double> reference, const std::vector<ObjectiveVector>& front,
             std::vector<double> best);

  /// Gains of candidates, in their order.
  [[nodiscard]] std::vector<double> gains(std::span<const ObjectiveVector> candidates) const;

  /// The gain of one point, of one or two objectives.
  [[nodiscard]] double gain(const ObjectiveVector& candidate) const;

  /// From now on the set has this point too.
  void add(const ObjectiveVector& point);

  /// Of the set as it is.
  [[nodiscard]] double volume() const;

 private:
  [[nodiscard]] double gain_2d(const ObjectiveVector& point) const;
  [[nodiscard]] double exact_gain(const ObjectiveVector& point) const;
  /// Of the open sample points, those that the point covers.
  [[nodiscard]] std::size_t covered_by(const ObjectiveVector& point) const;
  void close_covered_by(const ObjectiveVector& point);
  [[nodiscard]] bool inside(const ObjectiveVector& point) const;

  std::vector<double> reference_;
  std::vector<ObjectiveVector> front_;  // non-dominated; two objectives: by the first, ascending
  std::vector<double> best_;
  std::vector<std::vector<double>> open_;  // by dimension, sample points that nothing covers yet; the first ascends
  double sample_volume_ = 0;
};

}  // namespace kerf::search::native
