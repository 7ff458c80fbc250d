#include "search/observe.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>

namespace kerf::search {
namespace {

constexpr double kMissing = std::numeric_limits<double>::quiet_NaN();

std::string interval_key(const std::string& metric) {
  return metric == "latency_p50_us" ? "latency_ci95_us" : metric + "_ci95";
}

std::optional<std::array<double, 2>> ci95_of(const Json& measurement, const std::string& metric) {
  const auto found = measurement.find(interval_key(metric));
  if (found == measurement.end() || !found->is_array() || found->size() != 2 ||
      !(*found)[0].is_number() || !(*found)[1].is_number()) {
    return std::nullopt;
  }
  return std::array{(*found)[0].get<double>(), (*found)[1].get<double>()};
}

std::array<double, 2> interval_of(const Json& measurement, const std::string& metric, double value) {
  if (const auto paired = paired_difference(metric)) {
    const auto difference = measured(measurement, paired->metric);
    const auto around = ci95_of(measurement, paired->metric);
    if (difference && around) {
      const double baseline = value - paired->sign * *difference;
      const auto [low, high] = std::minmax({paired->sign * (*around)[0], paired->sign * (*around)[1]});
      return {baseline + low, baseline + high};
    }
  }
  return ci95_of(measurement, metric).value_or(std::array{value, value});
}

}  // namespace

std::optional<double> measured(const Json& measurement, const std::string& metric) {
  if (!measurement.is_object()) return std::nullopt;
  const auto found = measurement.find(metric);
  if (found == measurement.end() || !found->is_number()) return std::nullopt;
  const double value = found->get<double>();
  return std::isfinite(value) ? std::optional(value) : std::nullopt;
}

std::optional<PairedDifference> paired_difference(const std::string& metric) {
  if (metric == "accuracy") return PairedDifference{"accuracy_drop", -1};
  if (metric == "cross_entropy") return PairedDifference{"cross_entropy_rise", 1};
  return std::nullopt;
}

std::vector<Direction> directions_of(const StudyDefinition& study) {
  std::vector<Direction> out;
  for (const Objective& objective : study.objectives) out.push_back(objective.direction);
  return out;
}

std::int64_t bound_count(const StudyDefinition& study) {
  std::int64_t count = 0;
  for (const Constraint& constraint : study.constraints) {
    count += (constraint.max ? 1 : 0) + (constraint.min ? 1 : 0);
  }
  return count;
}

std::vector<double> bound_scales(std::span<const Constraint> constraints) {
  std::vector<double> out;
  for (const Constraint& constraint : constraints) {
    if (constraint.max) out.push_back(bound_scale(*constraint.max));
    if (constraint.min) out.push_back(bound_scale(*constraint.min));
  }
  return out;
}

Outcome observe(const StudyDefinition& study, const Json& measurement) {
  Outcome out;
  const auto value_of = [&](const std::string& metric) {
    if (const auto value = measured(measurement, metric)) return *value;
    if (std::find(out.missing.begin(), out.missing.end(), metric) == out.missing.end()) {
      out.missing.push_back(metric);
    }
    return kMissing;
  };
  for (const Objective& objective : study.objectives) {
    const double value = value_of(objective.metric);
    out.objectives.push_back(value);
    out.intervals.push_back(std::isnan(value) ? std::array{kMissing, kMissing}
                                              : interval_of(measurement, objective.metric, value));
  }
  for (const Constraint& constraint : study.constraints) {
    const double value = value_of(constraint.metric);
    if (constraint.max) out.constraints.push_back(value - *constraint.max);
    if (constraint.min) out.constraints.push_back(*constraint.min - value);
  }
  return out;
}

Observation observation_of(const StudyDefinition& study, const Trial& trial) {
  Observation out;
  out.number = trial.number;
  out.choices = trial.choices;
  out.state = trial.state;
  if (trial.state != TrialState::kComplete && trial.state != TrialState::kPruned) return out;
  Outcome outcome = observe(study, trial.measurement);
  if (trial.state == TrialState::kComplete && !outcome.complete()) {
    out.state = TrialState::kFailed;
    return out;
  }
  out.objectives = std::move(outcome.objectives);
  out.constraints = std::move(outcome.constraints);
  if (trial.state == TrialState::kComplete) {
    out.kl = measured(trial.measurement, "kl").value_or(kMissing);
    out.lean = measured(trial.measurement, "cross_entropy_rise").value_or(kMissing) - out.kl;
  }
  return out;
}

}  // namespace kerf::search
