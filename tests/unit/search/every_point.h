#pragma once

#include <vector>

#include "search/simulate.h"

namespace kerf::search {

/// The objectives of every candidate of a small table, without noise.
inline std::vector<ObjectiveVector> every_point(const Table& table) {
  const std::vector<DimensionSpec> dimensions = table.problem(1, false).dimensions;
  std::vector<ObjectiveVector> points;
  Choices x(dimensions.size(), 0);
  for (std::size_t d = 0; d < x.size();) {
    const MetricValues metrics = table.exact(table.layer_choices(x));
    ObjectiveVector point;
    for (const Objective& objective : table.objectives()) point.push_back(metrics.at(objective.metric));
    points.push_back(std::move(point));
    for (d = 0; d < x.size() && ++x[d] == dimensions[d].choices; ++d) x[d] = 0;
  }
  return points;
}

}  // namespace kerf::search
