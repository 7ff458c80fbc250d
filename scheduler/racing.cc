#include "scheduler/racing.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/metric.h"
#include "search/observe.h"

namespace kerf::scheduler {
namespace {

// Of a front of more, every k-th: a payload stays small.
constexpr std::size_t kMostRivals = 128;

void tighten(std::map<std::string, double>& limits, const std::string& metric, double limit, bool at_most) {
  const auto [known, fresh] = limits.try_emplace(metric, limit);
  if (!fresh) known->second = at_most ? std::min(known->second, limit) : std::max(known->second, limit);
}

}  // namespace

Racing::Racing(const StudyDefinition& study, const Json& baseline) : settings_(study.search.racing), study_(study) {
  const auto base_accuracy = search::measured(baseline, "accuracy");
  const auto base_drop = search::measured(baseline, "accuracy_drop");
  const bool drops = base_accuracy && base_drop;  // there are labels, and a baseline to compare with
  if (drops) baseline_accuracy_ = base_accuracy;
  for (const Constraint& constraint : study.constraints) {
    const std::string& metric = constraint.metric;
    if (metric == "accuracy_drop" && constraint.max && drops) tighten(limits_, metric, *constraint.max, true);
    if (metric == "accuracy" && constraint.min && drops) {
      tighten(limits_, "accuracy_drop", *base_accuracy - *constraint.min, true);
    }
    if ((metric == "agreement" || metric == "top5") && constraint.min) tighten(limits_, metric, *constraint.min, false);
  }
  std::string quality;
  for (const Objective& objective : study.objectives) {
    const std::string metric = objective.metric == "accuracy" ? "accuracy_drop" : objective.metric;
    const MetricInfo* info = find_metric(objective.metric);
    if (info == nullptr || info->better != objective.direction) return;
    if (!can_be_raced(metric)) continue;
    if (metric == "accuracy_drop" && !drops) return;
    if (!quality.empty()) return;
    quality = metric;
  }
  quality_metric_ = quality;
}

std::optional<RacingTerms::Rival> Racing::rival_of(std::int64_t number, const Json& measurement) const {
  StudyDefinition asked = study_;
  for (Objective& objective : asked.objectives) {
    if (objective.metric == "accuracy") objective = {"accuracy_drop", Direction::kMinimize};
  }
  const search::Outcome seen = search::observe(asked, measurement);
  if (!seen.complete()) return std::nullopt;
  RacingTerms::Rival rival{number, 0, {}};
  for (std::size_t i = 0; i < asked.objectives.size(); ++i) {
    const Objective& objective = asked.objectives[i];
    const double sure = seen.intervals[i][objective.direction == Direction::kMinimize ? 1 : 0];
    if (objective.metric == quality_metric_) {
      rival.quality = sure;
    } else {
      rival.others[objective.metric] = sure;
    }
  }
  return rival;
}

void Racing::learn(std::int64_t number, const Json& measurement) {
  if (quality_metric_.empty() || !settings_.on || !settings_.front) return;
  if (auto rival = rival_of(number, measurement)) rivals_.emplace(number, std::move(*rival));
}

Trial Racing::paired(Trial trial) const {
  const auto drop = search::measured(trial.measurement, "accuracy_drop");
  if (trial.state == TrialState::kPruned && baseline_accuracy_ && drop) {
    trial.measurement["accuracy"] = *baseline_accuracy_ - *drop;
  }
  return trial;
}

std::optional<RacingTerms> Racing::terms(std::span<const std::int64_t> front) const {
  if (!settings_.on || front.empty()) return std::nullopt;
  RacingTerms out;
  out.alpha = 1 - settings_.confidence;
  out.limits = limits_;
  out.quality_metric = quality_metric_;
  const std::size_t step = 1 + front.size() / kMostRivals;
  for (std::size_t i = 0; i < front.size(); i += step) {
    if (const auto rival = rivals_.find(front[i]); rival != rivals_.end()) out.rivals.push_back(rival->second);
  }
  if (out.rivals.empty()) out.quality_metric.clear();
  if (out.empty()) return std::nullopt;
  return out;
}

}  // namespace kerf::scheduler
