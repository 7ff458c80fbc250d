#include "core/metric.h"

#include <array>

namespace kerf {
namespace {

constexpr Direction kMin = Direction::kMinimize;
constexpr Direction kMax = Direction::kMaximize;

constexpr std::array kMetrics = {
    MetricInfo{"accuracy", kMax, true, true, false, "share of samples whose top-1 class is the label"},
    MetricInfo{"top5", kMax, true, true, false, "share of samples whose label is among the top five"},
    MetricInfo{"mae", kMin, true, true, false, "mean absolute error of a regression"},
    MetricInfo{"rmse", kMin, true, true, false, "root of the mean squared error of a regression"},
    MetricInfo{"accuracy_drop", kMin, true, true, false, "baseline's accuracy minus the candidate's"},
    MetricInfo{"cross_entropy", kMin, true, true, false, "mean −log p(label), nats"},
    MetricInfo{"cross_entropy_rise", kMin, true, true, false, "candidate's cross entropy minus the baseline's, nats"},
    MetricInfo{"agreement", kMax, true, false, false, "share of equal top-1 with the f32 baseline"},
    MetricInfo{"kl", kMin, true, false, false, "KL(baseline || candidate) of the softmax outputs, nats"},
    MetricInfo{"sqnr_db", kMax, true, false, false, "signal to quantization noise of the outputs, dB"},
    MetricInfo{"latency_p50_us", kMin, false, false, true, "median time of one batch, µs"},
    MetricInfo{"latency_p90_us", kMin, false, false, true, "90th percentile of the time, µs"},
    MetricInfo{"latency_p99_us", kMin, false, false, true, "99th percentile of the time, µs"},
    MetricInfo{"latency_ratio", kMin, false, false, true, "to the f32 baseline, paired runs"},
    MetricInfo{"throughput_sps", kMax, false, false, true, "samples a second"},
    MetricInfo{"weight_bytes", kMin, false, false, false, "weights as executed, resident"},
    MetricInfo{"storage_bytes", kMin, false, false, false, "the stored file"},
    MetricInfo{"activation_peak_bytes", kMin, false, false, false, "planned peak of activations"},
    MetricInfo{"rss_peak_bytes", kMin, false, false, false, "process's peak resident memory over its floor"},
    MetricInfo{"energy_uj", kMin, false, false, true, "energy of one batch, where RAPL is readable, µJ"},
    MetricInfo{"macs", kMin, false, false, false, "multiply-accumulates of one sample"},
    MetricInfo{"recovery_seconds", kMin, false, false, false, "time that recovery took, s"},
};

}  // namespace

std::string_view to_string(Direction direction) {
  return direction == Direction::kMinimize ? "minimize" : "maximize";
}

std::optional<Direction> direction_from_string(std::string_view text) {
  if (text == "minimize") return Direction::kMinimize;
  if (text == "maximize") return Direction::kMaximize;
  return std::nullopt;
}

std::span<const MetricInfo> metrics() { return kMetrics; }

const MetricInfo* find_metric(std::string_view name) {
  for (const MetricInfo& metric : kMetrics) {
    if (metric.name == name) return &metric;
  }
  return nullptr;
}

}  // namespace kerf
