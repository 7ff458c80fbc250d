#include "workers/compress/binarize.h"

#include <cmath>
#include <limits>
#include <vector>

namespace kerf::compress {
namespace {

using graph::Tensor;

constexpr double kTernaryShare = 0.7;

/// Which scale each element belongs to.
struct Channels {
  std::size_t count = 1;
  std::size_t inner = 1;

  Channels(const Tensor& weights, std::size_t axis, bool per_channel) {
    if (!per_channel || weights.rank() == 0) return;
    count = static_cast<std::size_t>(weights.dim(axis));
    for (std::size_t i = axis + 1; i < weights.rank(); ++i) {
      inner *= static_cast<std::size_t>(weights.dim(i));
    }
  }
  [[nodiscard]] std::size_t of(std::size_t element) const { return element / inner % count; }
};

Result<void> check_finite(std::span<const float> values) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!std::isfinite(values[i])) {
      return invalid_argument("weight " + std::to_string(i) + " is not finite");
    }
  }
  return {};
}

/// Mean of |w| over the elements of each scale that are above its threshold.
std::vector<double> means_above(std::span<const float> values, const Channels& channels,
                                const std::vector<double>& thresholds) {
  std::vector<double> sums(channels.count, 0.0);
  std::vector<double> counts(channels.count, 0.0);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::size_t c = channels.of(i);
    const double magnitude = std::fabs(static_cast<double>(values[i]));
    if (magnitude <= thresholds[c]) continue;
    sums[c] += magnitude;
    ++counts[c];
  }
  for (std::size_t c = 0; c < channels.count; ++c) {
    if (counts[c] > 0) sums[c] /= counts[c];
  }
  return sums;
}

/// Signs of what is above the thresholds (a zero's is +1), and the scales.
QuantizedWeights signs(const Tensor& weights, const Channels& channels,
                       const std::vector<double>& thresholds, const std::vector<double>& scales) {
  QuantizedWeights out;
  out.values = Tensor(graph::DType::kS8, weights.shape());
  const auto from = weights.as<float>();
  const auto to = out.values.mutable_as<std::int8_t>();
  for (const double scale : scales) {
    const auto narrow = static_cast<float>(scale);
    out.scales.push_back(narrow >= std::numeric_limits<float>::min() ? narrow : 1.0F);
  }
  for (std::size_t i = 0; i < from.size(); ++i) {
    const std::size_t c = channels.of(i);
    const bool vanishes =
        static_cast<float>(scales[c]) < std::numeric_limits<float>::min() ||
        std::fabs(static_cast<double>(from[i])) <= thresholds[c];
    to[i] = static_cast<std::int8_t>(vanishes ? 0 : from[i] < 0 ? -1 : 1);
  }
  return out;
}

}  // namespace

Result<QuantizedWeights> binarize(const Tensor& weights, std::size_t axis, bool per_channel) {
  const auto values = weights.as<float>();
  KERF_TRY(check_finite(values));
  const Channels channels(weights, axis, per_channel);
  const std::vector<double> below_all(channels.count, -1.0);
  return signs(weights, channels, below_all, means_above(values, channels, below_all));
}

Result<QuantizedWeights> ternarize(const Tensor& weights, std::size_t axis, bool per_channel) {
  const auto values = weights.as<float>();
  KERF_TRY(check_finite(values));
  const Channels channels(weights, axis, per_channel);
  std::vector<double> thresholds =
      means_above(values, channels, std::vector<double>(channels.count, -1.0));
  for (double& threshold : thresholds) threshold *= kTernaryShare;
  return signs(weights, channels, thresholds, means_above(values, channels, thresholds));
}

}  // namespace kerf::compress
