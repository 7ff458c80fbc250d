#include "workers/measure/race.h"

#include <cstdio>
#include <utility>

#include "core/metric.h"

namespace kerf::measure {
namespace {

// accuracy_drop is a loss itself; the others are shares, whose loss is what is missing to 1.
bool is_drop(const std::string& metric) { return metric == "accuracy_drop"; }
double loss_of(const std::string& metric, double value) { return is_drop(metric) ? value : 1 - value; }

std::optional<double> loss_in(const std::string& metric, const SampleVerdict& sample) {
  if (metric == "accuracy_drop") {
    if (!sample.labelled || !sample.compared) return std::nullopt;
    return (sample.baseline_right ? 1.0 : 0.0) - (sample.right ? 1.0 : 0.0);
  }
  if (metric == "top5") {
    if (!sample.labelled) return std::nullopt;
    return sample.among_top5 ? 0.0 : 1.0;
  }
  if (!sample.compared) return std::nullopt;
  return 1 - sample.agreement;
}

// Whether the candidate can't be better than `value` in this metric.
bool cannot_beat(const KnownCosts& costs, const std::string& metric, double value) {
  if (const auto known = costs.metrics.find(metric); known != costs.metrics.end()) {
    const MetricInfo* info = find_metric(metric);
    if (info == nullptr) return false;
    return info->better == Direction::kMinimize ? known->second >= value : known->second <= value;
  }
  if (!costs.least_latency_us) return false;
  if (metric == "latency_p50_us" || metric == "latency_p90_us" || metric == "latency_p99_us") {
    return *costs.least_latency_us >= value;
  }
  if (metric == "throughput_sps") return static_cast<double>(costs.batch) * 1e6 / *costs.least_latency_us <= value;
  return false;
}

std::string text(double value) {
  char out[32];
  std::snprintf(out, sizeof out, "%.4g", value);
  return out;
}

}  // namespace

void Race::set_bar(std::map<std::string, std::pair<double, std::string>>& bars, const std::string& metric,
                   double limit, const std::string& whose) const {
  const auto [bar, fresh] = bars.try_emplace(metric, limit, whose);
  if (!fresh && loss_of(metric, limit) < loss_of(metric, bar->second.first)) bar->second = {limit, whose};
}

Race::Race(const RacingTerms& terms, const KnownCosts& costs, std::int64_t samples) : samples_(samples) {
  std::map<std::string, std::pair<double, std::string>> bars;
  for (const auto& [metric, limit] : terms.limits) set_bar(bars, metric, limit, "the study's limit");
  for (const RacingTerms::Rival& rival : terms.rivals) {
    bool everywhere = true;
    for (const auto& [metric, value] : rival.others) everywhere = everywhere && cannot_beat(costs, metric, value);
    if (everywhere) {
      set_bar(bars, terms.quality_metric, rival.quality, "trial " + std::to_string(rival.trial) + " of the front");
    }
  }
  for (const auto& [metric, bar] : bars) {
    bars_.push_back({metric, bar.first, bar.second,
                     MeanTest(is_drop(metric) ? -1 : 0, 1, loss_of(metric, bar.first), samples,
                              terms.alpha / static_cast<double>(bars.size()))});
  }
}

void Race::add(const SampleVerdict& sample) {
  ++seen_;
  for (Bar& bar : bars_) {
    const auto loss = loss_in(bar.metric, sample);
    if (!loss) continue;
    bar.sum += *loss;
    if (!lost_.empty() || bar.test.add(*loss) != MeanTest::Verdict::kAbove) continue;
    const double so_far = bar.sum / static_cast<double>(seen_);
    lost_ = bar.metric + " is surely " + (is_drop(bar.metric) ? "above " : "below ") + text(bar.limit) + ", " +
            bar.whose + " (" + text(is_drop(bar.metric) ? so_far : 1 - so_far) + " after " + std::to_string(seen_) +
            " of " + std::to_string(samples_) + " samples)";
  }
}

}  // namespace kerf::measure
