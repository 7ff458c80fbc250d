#pragma once

#include <string>
#include <utility>
#include <vector>

#include "core/json.h"
#include "core/result.h"

namespace kerf::cli {

/// A budget: the largest or the smallest value that is taken.
struct MetricLimit {
  std::string metric;
  double value = 0;
  bool upper = true;
};

/// "accuracy_drop=0.01" -> a limit.
///
/// Errors:   invalid_argument: no "=", a metric that isn't known, a value that isn't a number.
[[nodiscard]] Result<MetricLimit> parse_limit(const std::string& text, bool upper);

/// The member of a front (front_report) that is best in a metric among those that keep every limit;
/// the metric's own better direction counts. Nothing is measured: a front serves many budgets. Of
/// equal ones the first.
///
/// Errors:   invalid_argument: `best` isn't a known metric. not_found: no member keeps the limits
///           (names the nearest and by how much it misses), or none has the metric.
[[nodiscard]] Result<Json> pick_member(const Json& report, const std::vector<MetricLimit>& limits,
                                       const std::string& best);

}  // namespace kerf::cli
