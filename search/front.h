#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/study.h"
#include "core/trial.h"
#include "search/pareto.h"
#include "search/sampler.h"

namespace kerf::search {

/// A trial on the front.
struct FrontMember {
  std::int64_t trial = 0;
  ObjectiveVector objectives;
  double contribution = 0;  ///< Of the hypervolume, this member alone.
};

/// A feasible trial that members of the front beat, but not by more than the noise: the measurements
/// don't say that it is worse.
struct TiedTrial {
  std::int64_t trial = 0;
  std::vector<std::int64_t> with;  ///< Members whose values are better, within the noise.
};

/// The hypervolume after a finished trial.
struct HypervolumeStep {
  std::int64_t trial = 0;
  double hypervolume = 0;
};

/// What a study has found.
struct Front {
  std::vector<FrontMember> members;          ///< Feasible; best in the first objective first.
  std::vector<TiedTrial> tied;               ///< By number. Together with the members: what no
                                             ///< member surely dominates (search/pareto.h).
  std::optional<std::int64_t> nearest_miss;  ///< Trial of least violation, where nothing is feasible.
  double least_violation = 0;                ///< Of nearest_miss: shares of its bounds, added up.
  double hypervolume = 0;
  std::vector<HypervolumeStep> history;      ///< One a finished trial, in the order given.
};

/// Grows with each finished trial; the cheap way to follow a running study.
///
/// Cost:     add: O(f·d) for a point that the front dominates, else one hypervolume of the front.
class FrontTracker {
 public:
  FrontTracker(std::vector<Direction> directions, std::vector<double> reference);

  /// Takes a finished trial in; whether the hypervolume grew.
  bool add(const Observation& observation);

  [[nodiscard]] double hypervolume() const { return hypervolume_; }

  /// Trials that are on the front now, in the order they came.
  [[nodiscard]] const std::vector<std::int64_t>& trials() const { return trials_; }

 private:
  std::vector<Direction> directions_;
  std::vector<double> reference_;
  std::vector<ObjectiveVector> points_;
  std::vector<std::int64_t> trials_;
  double hypervolume_ = 0;
};

/// The front of a study's trials, and how it came to be. Trials that aren't finished are passed
/// over; failed and pruned ones take part in the history only.
///
/// `trials` are in the order in which they ended, and all of one kind of hardware (hardware_id):
/// fronts never mix fingerprints.
[[nodiscard]] Front front(std::span<const Trial> trials, const StudyDefinition& study,
                          std::span<const double> reference);

/// The id of the hardware that a trial was measured on; empty where it wasn't.
[[nodiscard]] std::string hardware_id(const Trial& trial);

}  // namespace kerf::search
