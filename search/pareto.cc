#include "search/pareto.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>

namespace kerf::search {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

double minimised(double value, Direction direction) {
  return direction == Direction::kMinimize ? value : -value;
}

/// Points as values to minimise, rankable ones only, sorted lexicographically with their indices.
struct Sorted {
  std::vector<ObjectiveVector> points;
  std::vector<std::size_t> index;
};

Sorted sorted_minimised(std::span<const ObjectiveVector> points,
                        std::span<const Direction> directions) {
  std::vector<ObjectiveVector> converted(points.size());
  std::vector<std::size_t> order;
  for (std::size_t i = 0; i < points.size(); ++i) {
    if (!rankable(points[i], directions.size())) continue;
    converted[i].resize(directions.size());
    for (std::size_t d = 0; d < directions.size(); ++d) {
      converted[i][d] = minimised(points[i][d], directions[d]);
    }
    order.push_back(i);
  }
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return converted[a] != converted[b] ? converted[a] < converted[b] : a < b;
  });
  Sorted out;
  out.index = order;
  out.points.reserve(order.size());
  for (const std::size_t i : order) out.points.push_back(std::move(converted[i]));
  return out;
}

/// Pairs (a, b) of values to minimise, none of which is at least as good as another in both.
class Staircase {
 public:
  /// Whether some pair is at least as good in both.
  [[nodiscard]] bool covers(double a, double b) const {
    const auto after = steps_.upper_bound(a);
    return after != steps_.begin() && std::prev(after)->second <= b;
  }

  void insert(double a, double b) {
    auto it = steps_.lower_bound(a);
    while (it != steps_.end() && it->second >= b) it = steps_.erase(it);
    steps_.emplace(a, b);
  }

 private:
  std::map<double, double> steps_;  // a ascending, b strictly descending
};

bool weakly_better(const ObjectiveVector& a, const ObjectiveVector& b) {
  for (std::size_t d = 0; d < a.size(); ++d) {
    if (a[d] > b[d]) return false;
  }
  return true;
}

/// The lower limit of the interval of "by how much a beats b" in one objective to minimise.
double least_gain(double a, double a_high, double b, double b_low) {
  const double da = a_high - a;
  const double db = b - b_low;
  return (b - a) - std::sqrt(da * da + db * db);
}

}  // namespace

bool rankable(std::span<const double> objectives, std::size_t expected) {
  return objectives.size() == expected && expected > 0 &&
         std::all_of(objectives.begin(), objectives.end(), [](double v) { return std::isfinite(v); });
}

bool feasible(std::span<const double> constraints) {
  return std::all_of(constraints.begin(), constraints.end(),
                     [](double g) { return std::isfinite(g) && g <= 0; });
}

double bound_scale(double bound) { return bound == 0 ? 1 : std::abs(bound); }

double violation(std::span<const double> constraints, std::span<const double> scales) {
  double sum = 0;
  for (std::size_t i = 0; i < constraints.size(); ++i) {
    if (!std::isfinite(constraints[i])) return kInfinity;
    sum += std::max(0.0, constraints[i]) / (scales.empty() ? 1.0 : scales[i]);
  }
  return sum;
}

bool dominates(std::span<const double> a, std::span<const double> b,
               std::span<const Direction> directions) {
  if (!rankable(a, directions.size()) || !rankable(b, directions.size())) return false;
  bool better = false;
  for (std::size_t d = 0; d < directions.size(); ++d) {
    const double gain = minimised(b[d], directions[d]) - minimised(a[d], directions[d]);
    if (gain < 0) return false;
    better = better || gain > 0;
  }
  return better;
}

std::vector<std::size_t> non_dominated(std::span<const ObjectiveVector> points,
                                       std::span<const Direction> directions) {
  const Sorted sorted = sorted_minimised(points, directions);
  const std::size_t dimensions = directions.size();
  std::vector<std::size_t> front;
  std::vector<std::size_t> kept;  // positions in `sorted`, for four objectives and more
  Staircase staircase;
  double best_second = kInfinity;
  // In lexicographic order a point can only be dominated by one that came before, and any other
  // point before that is nowhere worse dominates it. Equal points are neighbours and share a fate.
  for (std::size_t i = 0; i < sorted.points.size();) {
    const ObjectiveVector& p = sorted.points[i];
    std::size_t end = i + 1;
    while (end < sorted.points.size() && sorted.points[end] == p) ++end;
    bool dominated = false;
    if (dimensions == 1) {
      dominated = i > 0;
    } else if (dimensions == 2) {
      dominated = best_second <= p[1];
      best_second = std::min(best_second, p[1]);
    } else if (dimensions == 3) {
      dominated = staircase.covers(p[1], p[2]);
      if (!dominated) staircase.insert(p[1], p[2]);
    } else {
      dominated = std::any_of(kept.begin(), kept.end(), [&](std::size_t k) {
        return weakly_better(sorted.points[k], p);
      });
      if (!dominated) kept.push_back(i);
    }
    for (; i < end; ++i) {
      if (!dominated) front.push_back(sorted.index[i]);
    }
  }
  std::sort(front.begin(), front.end());
  return front;
}

Selection select(std::span<const Candidate> candidates, std::span<const Direction> directions,
                 std::span<const double> scales) {
  Selection out;
  std::vector<ObjectiveVector> feasible_points(candidates.size());  // the others stay empty
  bool any = false;
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    const Candidate& candidate = candidates[i];
    if (!rankable(candidate.objectives, directions.size())) continue;
    if (feasible(candidate.constraints)) {
      feasible_points[i] = candidate.objectives;
      any = true;
      continue;
    }
    const double miss = violation(candidate.constraints, scales);
    if (!out.nearest_miss || miss < out.least_violation) {
      out.nearest_miss = i;
      out.least_violation = miss;
    }
  }
  if (any) {
    out.nearest_miss.reset();
    out.least_violation = 0;
    out.front = non_dominated(feasible_points, directions);
  }
  return out;
}

bool surely_dominates(const UncertainPoint& a, const UncertainPoint& b,
                      std::span<const Direction> directions) {
  if (!rankable(a.objectives, directions.size()) || !rankable(b.objectives, directions.size())) {
    return false;
  }
  bool better = false;
  for (std::size_t d = 0; d < directions.size(); ++d) {
    const auto interval = [&](const UncertainPoint& point) -> std::array<double, 2> {
      const double value = point.objectives[d];
      if (point.intervals.size() != directions.size()) return {value, value};
      const auto [low, high] = point.intervals[d];
      // An interval that isn't one tells nothing of the noise: the value counts as exact.
      if (!(low <= value && value <= high)) return {value, value};
      return {low, high};
    };
    const auto [a_low, a_high] = interval(a);
    const auto [b_low, b_high] = interval(b);
    const double gain = directions[d] == Direction::kMinimize
                            ? least_gain(a.objectives[d], a_high, b.objectives[d], b_low)
                            : least_gain(-a.objectives[d], -a_low, -b.objectives[d], -b_high);
    if (!(gain >= 0)) return false;
    better = better || gain > 0;
  }
  return better;
}

std::vector<std::size_t> possibly_non_dominated(std::span<const UncertainPoint> points,
                                                std::span<const Direction> directions) {
  std::vector<std::size_t> kept;
  for (std::size_t i = 0; i < points.size(); ++i) {
    if (!rankable(points[i].objectives, directions.size())) continue;
    const bool dropped = std::any_of(points.begin(), points.end(), [&](const UncertainPoint& other) {
      return surely_dominates(other, points[i], directions);
    });
    if (!dropped) kept.push_back(i);
  }
  return kept;
}

}  // namespace kerf::search
