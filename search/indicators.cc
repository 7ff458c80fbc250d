#include "search/indicators.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

namespace kerf::search {
namespace {

double signed_value(double value, Direction direction) {
  return direction == Direction::kMinimize ? value : -value;
}

void require_rankable(const ObjectiveVector& point, std::size_t expected) {
  if (!rankable(point, expected)) throw std::invalid_argument("indicator: a point that can't be ranked");
}

}  // namespace

double igd_plus(std::span<const ObjectiveVector> points, std::span<const ObjectiveVector> reference,
                std::span<const Direction> directions) {
  if (reference.empty()) throw std::invalid_argument("igd_plus: a reference front is needed");
  for (const ObjectiveVector& p : points) require_rankable(p, directions.size());
  double sum = 0;
  for (const ObjectiveVector& r : reference) {
    require_rankable(r, directions.size());
    double least = std::numeric_limits<double>::infinity();
    for (const ObjectiveVector& p : points) {
      double square = 0;
      for (std::size_t d = 0; d < directions.size(); ++d) {
        const double worse = std::max(0.0, signed_value(p[d], directions[d]) - signed_value(r[d], directions[d]));
        square += worse * worse;
      }
      least = std::min(least, square);
    }
    sum += std::sqrt(least);
  }
  return sum / static_cast<double>(reference.size());
}

std::vector<ObjectiveVector> attainment_surface(std::span<const std::vector<ObjectiveVector>> runs,
                                                std::span<const Direction> directions,
                                                std::size_t level) {
  if (directions.size() != 2) throw std::invalid_argument("attainment: two objectives are needed");
  if (level < 1 || level > runs.size()) throw std::invalid_argument("attainment: level out of range");
  struct Step {
    double x;
    double y;
    std::size_t run;
  };
  std::vector<Step> steps;
  for (std::size_t run = 0; run < runs.size(); ++run) {
    for (const ObjectiveVector& p : runs[run]) {
      require_rankable(p, 2);
      steps.push_back({signed_value(p[0], directions[0]), signed_value(p[1], directions[1]), run});
    }
  }
  std::sort(steps.begin(), steps.end(), [](const Step& a, const Step& b) { return a.x < b.x; });
  // From left to right: the least second value that each run has by now; the level-th of them is how
  // low so many runs have come.
  std::vector<double> lowest(runs.size(), std::numeric_limits<double>::infinity());
  double last = std::numeric_limits<double>::infinity();
  std::vector<ObjectiveVector> out;
  for (std::size_t i = 0; i < steps.size();) {
    const double x = steps[i].x;
    for (; i < steps.size() && steps[i].x == x; ++i) {
      lowest[steps[i].run] = std::min(lowest[steps[i].run], steps[i].y);
    }
    std::vector<double> sorted = lowest;
    const auto nth = sorted.begin() + static_cast<std::ptrdiff_t>(level - 1);
    std::nth_element(sorted.begin(), nth, sorted.end());
    if (!(*nth < last)) continue;
    last = *nth;
    out.push_back({signed_value(x, directions[0]), signed_value(last, directions[1])});
  }
  return out;
}

}  // namespace kerf::search
