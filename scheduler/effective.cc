#include "scheduler/effective.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/metric.h"

namespace kerf::scheduler {

StudyDefinition effective_study(StudyDefinition study, const Json& baseline) {
  if (study.objectives_given || !baseline.is_object()) return study;
  for (Objective& objective : study.objectives) {
    if (objective.metric != "accuracy" || baseline.contains("accuracy")) continue;
    if (baseline.contains("rmse")) {
      objective = {"rmse", Direction::kMinimize};
    } else {
      objective = {"agreement", Direction::kMaximize};
    }
  }
  return study;
}

std::vector<std::string> trial_metrics(const StudyDefinition& study) {
  const auto timed = [](const std::string& name) {
    const MetricInfo* info = find_metric(name);
    return info != nullptr && info->needs_latency;
  };
  const bool wants_time =
      std::any_of(study.objectives.begin(), study.objectives.end(),
                  [&](const Objective& objective) { return timed(objective.metric); }) ||
      std::any_of(study.constraints.begin(), study.constraints.end(),
                  [&](const Constraint& constraint) { return timed(constraint.metric); });
  return wants_time ? std::vector<std::string>{} : verify_metrics();
}

std::vector<std::string> verify_metrics() {
  std::vector<std::string> out;
  for (const MetricInfo& metric : metrics()) {
    if (!metric.needs_latency) out.emplace_back(metric.name);
  }
  return out;
}

bool has_test_split(const StudyDefinition& study) {
  return !study.data.single.empty() || !study.data.test.empty();
}

}  // namespace kerf::scheduler
