#include "search/front.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "search/hypervolume.h"
#include "search/observe.h"

namespace kerf::search {

FrontTracker::FrontTracker(std::vector<Direction> directions, std::vector<double> reference)
    : directions_(std::move(directions)), reference_(std::move(reference)) {}

bool FrontTracker::add(const Observation& observation) {
  if (observation.state != TrialState::kComplete || !feasible(observation.constraints) ||
      !rankable(observation.objectives, directions_.size())) {
    return false;
  }
  const auto& point = observation.objectives;
  for (const ObjectiveVector& member : points_) {
    if (dominates(member, point, directions_)) return false;
  }
  std::size_t kept = 0;
  for (std::size_t i = 0; i < points_.size(); ++i) {
    if (dominates(point, points_[i], directions_)) continue;
    if (kept != i) {
      points_[kept] = std::move(points_[i]);
      trials_[kept] = trials_[i];
    }
    ++kept;
  }
  points_.resize(kept);
  trials_.resize(kept);
  const bool twin = std::find(points_.begin(), points_.end(), point) != points_.end();
  points_.push_back(point);
  trials_.push_back(observation.number);
  if (twin) return false;
  const double before = hypervolume_;
  // Never below what was reached: the sum of a larger set may round lower.
  hypervolume_ = std::max(before, search::hypervolume(points_, directions_, reference_));
  return hypervolume_ > before;
}

namespace {

/// A finished trial with the noise of its objectives.
struct Seen {
  std::int64_t number = 0;
  UncertainPoint point;
  bool feasible = false;
};

// Only members are asked: they are what is offered instead.
std::vector<TiedTrial> tied_trials(std::span<const Seen> seen, std::span<const std::size_t> members,
                                   std::span<const Direction> directions) {
  std::vector<TiedTrial> out;
  std::vector<bool> on_front(seen.size(), false);
  for (const std::size_t m : members) on_front[m] = true;
  for (std::size_t i = 0; i < seen.size(); ++i) {
    if (on_front[i] || !seen[i].feasible || !rankable(seen[i].point.objectives, directions.size())) continue;
    TiedTrial tied{seen[i].number, {}};
    bool dropped = false;
    for (const std::size_t m : members) {
      if (!dominates(seen[m].point.objectives, seen[i].point.objectives, directions)) continue;
      dropped = surely_dominates(seen[m].point, seen[i].point, directions);
      if (dropped) break;
      tied.with.push_back(seen[m].number);
    }
    if (!dropped) out.push_back(std::move(tied));
  }
  std::sort(out.begin(), out.end(), [](const TiedTrial& a, const TiedTrial& b) { return a.trial < b.trial; });
  return out;
}

}  // namespace

Front front(std::span<const Trial> trials, const StudyDefinition& study,
            std::span<const double> reference) {
  const std::vector<Direction> directions = directions_of(study);
  Front out;
  FrontTracker tracker(directions, {reference.begin(), reference.end()});
  std::vector<Candidate> candidates;
  std::vector<Seen> seen;
  for (const Trial& trial : trials) {
    if (!is_terminal(trial.state)) continue;
    Observation observation = observation_of(study, trial);
    tracker.add(observation);
    out.history.push_back({trial.number, tracker.hypervolume()});
    if (observation.state != TrialState::kComplete) {
      observation.objectives.clear();
      observation.constraints.clear();
    }
    seen.push_back({trial.number,
                    {observation.objectives, observe(study, trial.measurement).intervals},
                    feasible(observation.constraints)});
    candidates.push_back({std::move(observation.objectives), std::move(observation.constraints)});
  }
  out.hypervolume = tracker.hypervolume();
  const Selection selection = select(candidates, directions, bound_scales(study.constraints));
  if (selection.nearest_miss) {
    out.nearest_miss = seen[*selection.nearest_miss].number;
    out.least_violation = selection.least_violation;
  }
  std::vector<ObjectiveVector> points;
  for (const std::size_t i : selection.front) points.push_back(candidates[i].objectives);
  const std::vector<double> contributions =
      hypervolume_contributions(points, directions, reference);
  for (std::size_t k = 0; k < points.size(); ++k) {
    out.members.push_back({seen[selection.front[k]].number, points[k], contributions[k]});
  }
  std::stable_sort(out.members.begin(), out.members.end(),
                   [&](const FrontMember& a, const FrontMember& b) {
                     for (std::size_t d = 0; d < directions.size(); ++d) {
                       if (a.objectives[d] == b.objectives[d]) continue;
                       return (a.objectives[d] < b.objectives[d]) ==
                              (directions[d] == Direction::kMinimize);
                     }
                     return a.trial < b.trial;
                   });
  out.tied = tied_trials(seen, selection.front, directions);
  return out;
}

std::string hardware_id(const Trial& trial) {
  if (!trial.measurement.is_object()) return {};
  const auto hardware = trial.measurement.find("hardware");
  if (hardware == trial.measurement.end() || !hardware->is_object()) return {};
  const auto id = hardware->find("id");
  return id != hardware->end() && id->is_string() ? id->get<std::string>() : std::string();
}

}  // namespace kerf::search
