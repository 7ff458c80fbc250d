#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/json.h"
#include "core/study.h"
#include "core/trial.h"
#include "search/pareto.h"
#include "search/sampler.h"

namespace kerf::search {

/// A measurement as a study's objectives and constraints see it.
struct Outcome {
  ObjectiveVector objectives;        ///< In the study's order; NaN where the metric is missing.
  std::vector<double> constraints;   ///< One a bound: value − max, min − value; NaN where missing.
  /// Of the objectives; [v, v] where there is none. Where a paired_difference() is known it is around that:
  /// candidates are compared with each other.
  std::vector<std::array<double, 2>> intervals;
  std::vector<std::string> missing;  ///< Metrics that were needed and aren't there, each once.

  [[nodiscard]] bool complete() const { return missing.empty(); }
};

/// A metric of a measurement's JSON; nothing where it is missing or isn't a finite number.
[[nodiscard]] std::optional<double> measured(const Json& measurement, const std::string& metric);

/// The metric that says what another one differs by from the baseline on the same samples.
struct PairedDifference {
  std::string metric;
  double sign = 1;  ///< Metric = baseline + sign·difference.
};

/// Nothing for a metric that has none.
[[nodiscard]] std::optional<PairedDifference> paired_difference(const std::string& metric);

/// Directions of the study's objectives, in order.
[[nodiscard]] std::vector<Direction> directions_of(const StudyDefinition& study);

/// Number of bounds; a constraint with both max and min counts twice (max first).
[[nodiscard]] std::int64_t bound_count(const StudyDefinition& study);

/// What each bound's violation is divided by (bound_scale), in the order of Outcome::constraints.
[[nodiscard]] std::vector<double> bound_scales(std::span<const Constraint> constraints);

/// Reads objectives and constraints from a measurement's JSON (Measurement::to_json()).
[[nodiscard]] Outcome observe(const StudyDefinition& study, const Json& measurement);

/// A finished trial as samplers see it. Of a pruned one what it showed until then, NaN where it didn't
/// come to that. A complete trial without one of the needed metrics is told
/// as failed: it can't rank.
[[nodiscard]] Observation observation_of(const StudyDefinition& study, const Trial& trial);

}  // namespace kerf::search
