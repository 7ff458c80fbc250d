#pragma once

#include <cstddef>
#include <optional>
#include <vector>

#include "search/native/additive.h"
#include "search/native/bounds.h"

namespace kerf::search::native {

/// What the models of all metrics say together of a point.
///
/// Metrics are counted as in Profile, minimised. A constraint that is an objective's bound follows from
/// that objective; its own model is not asked.
struct Outlook {
  const Layout* layout = nullptr;
  std::size_t objectives = 0;
  std::vector<AdditiveModel> models;          ///< One a metric.
  std::vector<std::optional<Bound>> bounds;   ///< One a constraint.
  std::vector<double> scales;                 ///< Of constraints (SamplerProblem::bound_scales).

  /// Whether a metric's own model is not asked.
  [[nodiscard]] bool linked(std::size_t metric) const {
    return metric >= objectives && bounds[metric - objectives].has_value();
  }

  /// One a metric; 0 for a linked one.
  [[nodiscard]] std::vector<double> metrics(const Choices& x) const;

  /// Of such metrics: how far constraints are missed, in their scales and summed; 0 is feasible.
  [[nodiscard]] double violation(const std::vector<double>& metrics) const;
};

}  // namespace kerf::search::native
