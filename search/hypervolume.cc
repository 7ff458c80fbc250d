#include "search/hypervolume.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>

#include "search/observe.h"

namespace kerf::search {
namespace {

/// How much better than the reference a point is, by objective: all positive.
using Gain = std::vector<double>;
using Gains = std::vector<Gain>;

Gain gain_of(const ObjectiveVector& point, std::span<const Direction> directions,
             std::span<const double> reference) {
  Gain gain(directions.size());
  for (std::size_t d = 0; d < directions.size(); ++d) {
    gain[d] = directions[d] == Direction::kMinimize ? reference[d] - point[d]
                                                    : point[d] - reference[d];
    if (!(gain[d] > 0)) return {};
  }
  return gain;
}

void check(std::span<const ObjectiveVector> points, std::span<const Direction> directions,
           std::span<const double> reference) {
  if (!rankable(reference, directions.size())) {
    throw std::invalid_argument("hypervolume: one finite reference value an objective is needed");
  }
  for (const ObjectiveVector& point : points) {
    if (!point.empty() && point.size() != directions.size()) {
      throw std::invalid_argument("hypervolume: a point of " + std::to_string(point.size()) +
                                  " objectives; expected " + std::to_string(directions.size()));
    }
  }
}

double product(const Gain& gain, std::size_t dimensions) {
  double out = 1;
  for (std::size_t d = 0; d < dimensions; ++d) out *= gain[d];
  return out;
}

/// The area below a growing set of boxes [0, x] × [0, y].
class GrowingArea {
 public:
  void clear() {
    steps_.clear();
    area_ = 0;
  }

  /// Adds a box. Only what is new is added to the sum, so that no rounding of differences piles up.
  void add(double x, double y) {
    // steps_: x ascending, y strictly descending. The box is new between the height that already
    // stands at each x and y.
    auto it = std::lower_bound(steps_.begin(), steps_.end(), x,
                               [](const Step& step, double value) { return step.x < value; });
    if (it != steps_.end() && it->y >= y) return;
    const auto right = it;  // the first step at or beyond x; lower than y
    double right_x = x;
    double standing = right == steps_.end() ? 0 : right->y;
    auto left = it;
    while (left != steps_.begin()) {
      const auto step = std::prev(left);
      area_ += (right_x - step->x) * (y - standing);
      right_x = step->x;
      if (step->y >= y) break;
      standing = step->y;
      left = step;
    }
    if (left == steps_.begin()) area_ += right_x * (y - standing);
    const auto last = right != steps_.end() && right->x == x ? std::next(right) : right;
    if (left == last) {
      steps_.insert(left, {x, y});
    } else {
      *left = {x, y};
      steps_.erase(std::next(left), last);
    }
  }

  [[nodiscard]] double area() const { return area_; }

 private:
  struct Step {
    double x;
    double y;
  };
  std::vector<Step> steps_;
  double area_ = 0;
};

double volume_1d(const Gains& gains) {
  double best = 0;
  for (const Gain& gain : gains) best = std::max(best, gain[0]);
  return best;
}

double volume_2d(Gains& gains) {
  std::sort(gains.begin(), gains.end(), std::greater<>());
  double volume = 0;
  double height = 0;
  for (const Gain& gain : gains) {
    if (gain[1] <= height) continue;
    volume += gain[0] * (gain[1] - height);
    height = gain[1];
  }
  return volume;
}

/// A sweep down the third objective. `gains` are sorted by it, best first.
double swept_volume_3d(const Gains& gains, GrowingArea& area) {
  area.clear();
  double volume = 0;
  for (std::size_t i = 0; i < gains.size(); ++i) {
    area.add(gains[i][0], gains[i][1]);
    const double next = i + 1 < gains.size() ? gains[i + 1][2] : 0;
    volume += area.area() * (gains[i][2] - next);
  }
  return volume;
}

void sort_by(Gains& gains, std::size_t objective) {
  std::sort(gains.begin(), gains.end(), [&](const Gain& a, const Gain& b) {
    return a[objective] != b[objective] ? a[objective] > b[objective] : a > b;
  });
}

bool covers(const Gain& a, const Gain& b, std::size_t dimensions) {
  for (std::size_t d = 0; d < dimensions; ++d) {
    if (a[d] < b[d]) return false;
  }
  return true;
}

double volume(Gains& gains, std::size_t dimensions);

/// Of four objectives and more: a sweep down the last one. What each point adds to the volume of
/// the objectives before is its own box less what the points above it already cover of that box.
double swept_volume(Gains& gains, std::size_t dimensions) {
  const std::size_t lower = dimensions - 1;
  sort_by(gains, lower);
  Gains above;  // non-dominated in the lower objectives, sorted by the last of them, best first
  Gains limited;
  GrowingArea area;
  double total = 0;
  double section = 0;
  for (std::size_t i = 0; i < gains.size(); ++i) {
    const Gain& p = gains[i];
    const bool covered = std::any_of(above.begin(), above.end(),
                                     [&](const Gain& q) { return covers(q, p, lower); });
    if (!covered) {
      limited.resize(above.size());
      for (std::size_t k = 0; k < above.size(); ++k) {
        limited[k].resize(lower);
        for (std::size_t d = 0; d < lower; ++d) limited[k][d] = std::min(above[k][d], p[d]);
      }
      // Limiting keeps the order by the last of the lower objectives: no sorting in three.
      const double taken =
          lower == 3 ? swept_volume_3d(limited, area) : volume(limited, lower);
      section += std::max(0.0, product(p, lower) - taken);
      std::erase_if(above, [&](const Gain& q) { return covers(p, q, lower); });
      const auto place =
          std::lower_bound(above.begin(), above.end(), p, [&](const Gain& a, const Gain& b) {
            return a[lower - 1] > b[lower - 1];
          });
      above.insert(place, p);
    }
    const double next = i + 1 < gains.size() ? gains[i + 1][lower] : 0;
    total += section * (p[lower] - next);
  }
  return total;
}

double volume(Gains& gains, std::size_t dimensions) {
  if (gains.empty()) return 0;
  if (dimensions == 1) return volume_1d(gains);
  if (dimensions == 2) return volume_2d(gains);
  if (dimensions == 3) {
    sort_by(gains, 2);
    GrowingArea area;
    return swept_volume_3d(gains, area);
  }
  return swept_volume(gains, dimensions);
}

/// The gains of the front; `index` says whose they are.
Gains front_gains(std::span<const ObjectiveVector> points, std::span<const Direction> directions,
                  std::span<const double> reference, std::vector<std::size_t>* index) {
  Gains gains;
  for (const std::size_t i : non_dominated(points, directions)) {
    Gain gain = gain_of(points[i], directions, reference);
    if (gain.empty()) continue;
    gains.push_back(std::move(gain));
    if (index != nullptr) index->push_back(i);
  }
  return gains;
}

bool is_share(std::string_view metric) {
  return metric == "accuracy" || metric == "top5" || metric == "agreement" ||
         metric == "accuracy_drop";
}

/// The tightest bound of a metric on one side.
std::optional<double> bound_of(const StudyDefinition& study, std::string_view metric, bool upper) {
  std::optional<double> bound;
  for (const Constraint& constraint : study.constraints) {
    if (constraint.metric != metric) continue;
    const auto& side = upper ? constraint.max : constraint.min;
    if (!side) continue;
    bound = !bound ? *side : upper ? std::min(*bound, *side) : std::max(*bound, *side);
  }
  return bound;
}

/// Rules 1 and 2 of reference_point().
std::optional<double> bounded_reference(const StudyDefinition& study, const Objective& objective,
                                        std::optional<double> baseline_accuracy) {
  const bool minimise = objective.direction == Direction::kMinimize;
  if (const auto own = bound_of(study, objective.metric, minimise)) return own;
  if (!baseline_accuracy) return std::nullopt;
  if (objective.metric == "accuracy" && !minimise) {
    if (const auto drop = bound_of(study, "accuracy_drop", true)) return *baseline_accuracy - *drop;
  }
  if (objective.metric == "accuracy_drop" && minimise) {
    if (const auto least = bound_of(study, "accuracy", false)) return *baseline_accuracy - *least;
  }
  return std::nullopt;
}

}  // namespace

double hypervolume(std::span<const ObjectiveVector> points, std::span<const Direction> directions,
                   std::span<const double> reference) {
  check(points, directions, reference);
  Gains gains = front_gains(points, directions, reference, nullptr);
  return volume(gains, directions.size());
}

std::vector<double> hypervolume_contributions(std::span<const ObjectiveVector> points,
                                              std::span<const Direction> directions,
                                              std::span<const double> reference) {
  check(points, directions, reference);
  std::vector<double> out(points.size(), 0.0);
  std::vector<std::size_t> index;
  const Gains gains = front_gains(points, directions, reference, &index);
  const std::size_t dimensions = directions.size();
  if (dimensions == 2) {
    std::vector<std::size_t> order(gains.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::sort(order.begin(), order.end(),
              [&](std::size_t a, std::size_t b) { return gains[a] > gains[b]; });
    for (std::size_t k = 0; k < order.size(); ++k) {
      const Gain& p = gains[order[k]];
      const double below = k == 0 ? 0 : gains[order[k - 1]][1];
      const double beside = k + 1 == order.size() ? 0 : gains[order[k + 1]][0];
      out[index[order[k]]] = (p[0] - beside) * (p[1] - below);  // 0 beside an equal point
    }
    return out;
  }
  for (std::size_t i = 0; i < gains.size(); ++i) {
    Gains others;
    others.reserve(gains.size());
    for (std::size_t k = 0; k < gains.size(); ++k) {
      if (k == i) continue;
      Gain limited(dimensions);
      for (std::size_t d = 0; d < dimensions; ++d) limited[d] = std::min(gains[k][d], gains[i][d]);
      others.push_back(std::move(limited));
    }
    out[index[i]] = std::max(0.0, product(gains[i], dimensions) - volume(others, dimensions));
  }
  return out;
}

Result<std::vector<double>> reference_point(const StudyDefinition& study,
                                            const Json& baseline_measurement) {
  const auto baseline_accuracy = measured(baseline_measurement, "accuracy");
  std::vector<double> reference;
  for (const Objective& objective : study.objectives) {
    const std::string& metric = objective.metric;
    const bool minimise = objective.direction == Direction::kMinimize;
    std::optional<double> own = measured(baseline_measurement, metric);
    if (!own && metric == "accuracy_drop") own = 0.0;
    if (auto bound = bounded_reference(study, objective, baseline_accuracy)) {
      if (own && *bound == *own) {
        const double margin = is_share(metric) || *own == 0 ? 0.01 : 0.1 * std::abs(*own);
        *bound += minimise ? margin : -margin;
      }
      reference.push_back(*bound);
      continue;
    }
    if (!minimise && (metric == "accuracy" || metric == "top5" || metric == "agreement" ||
                      metric == "sqnr_db")) {
      reference.push_back(0);
    } else if (minimise && metric == "accuracy_drop") {
      reference.push_back(baseline_accuracy.value_or(1.0));
    } else if (!own) {
      return Error{ErrorCode::kFailedPrecondition,
                   "objective " + metric + ": the baseline's measurement has no such metric; " +
                       "expected an objective that this data and machine can measure"};
    } else if (*own == 0) {
      const double far = metric == "recovery_seconds" ? 600 : 1;
      reference.push_back(minimise ? far : -far);
    } else {
      // Away from the baseline on the bad side, whatever its sign.
      const double far = minimise && (metric == "mae" || metric == "rmse" || metric == "cross_entropy") ? 2 : 1.1;
      const double worse = std::abs(*own) * (minimise == (*own > 0) ? far : 1 / far);
      reference.push_back(*own > 0 ? worse : -worse);
    }
  }
  return reference;
}

}  // namespace kerf::search
