#include "search/promise.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "core/metric.h"
#include "search/observe.h"

namespace kerf::search {
namespace {

struct Value {
  double value = 0;
  std::array<double, 2> interval{};
};

std::optional<Value> value_in(const Json& measurement, const std::string& metric) {
  StudyDefinition one;
  one.objectives = {{metric, Direction::kMinimize}};
  const Outcome seen = observe(one, measurement);
  if (!seen.complete()) return std::nullopt;
  return Value{seen.objectives[0], seen.intervals[0]};
}

// What depends on the samples. Sizes are the same on every split, times aren't measured again.
bool depends_on_data(const std::string& metric) {
  const MetricInfo* info = find_metric(metric);
  return info != nullptr && info->of_outputs;
}

bool worse_than_promised(const Value& promised, const Value& measured, Direction better) {
  const bool less = better == Direction::kMinimize;
  const double worse = less ? measured.value - promised.value : promised.value - measured.value;
  const double before = less ? promised.interval[1] - promised.value : promised.value - promised.interval[0];
  const double after = less ? measured.value - measured.interval[0] : measured.interval[1] - measured.value;
  return worse > std::sqrt(before * before + after * after);
}

}  // namespace

Json BrokenPromise::to_json() const {
  return {{"metric", metric}, {"promised", promised}, {"interval", interval}, {"measured", measured}, {"bound", bound}};
}

std::vector<BrokenPromise> broken_promises(const StudyDefinition& study, const Json& measurement,
                                           const Json& verification) {
  std::vector<BrokenPromise> out;
  const auto both = [&](const std::string& metric) -> std::optional<std::pair<Value, Value>> {
    if (!depends_on_data(metric)) return std::nullopt;
    const auto promised = value_in(measurement, metric);
    const auto measured = value_in(verification, metric);
    if (!promised || !measured) return std::nullopt;
    return std::pair(*promised, *measured);
  };
  const auto note = [&](const std::string& metric, const std::pair<Value, Value>& values, bool bound) {
    const auto there = std::find_if(out.begin(), out.end(), [&](const auto& one) { return one.metric == metric; });
    if (there != out.end()) {
      there->bound = there->bound || bound;
      return;
    }
    out.push_back({metric, values.first.value, values.first.interval, values.second.value, bound});
  };
  const auto judge = [&](std::string metric) {
    const auto paired = paired_difference(metric);
    if (paired && both(paired->metric)) metric = paired->metric;
    const MetricInfo* info = find_metric(metric);
    const auto values = both(metric);
    if (info == nullptr || !values) return;
    if (worse_than_promised(values->first, values->second, info->better)) note(metric, *values, false);
  };
  for (const Objective& objective : study.objectives) judge(objective.metric);
  for (const Constraint& constraint : study.constraints) {
    judge(constraint.metric);
    const auto values = both(constraint.metric);
    if (!values) continue;
    const auto kept = [&](double value) {
      return !(constraint.max && value > *constraint.max) && !(constraint.min && value < *constraint.min);
    };
    if (kept(values->first.value) && !kept(values->second.value)) note(constraint.metric, *values, true);
  }
  return out;
}

}  // namespace kerf::search
