#include "workers/compress/histogram.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace kerf::compress {
namespace {

/// Doubles the width of the bins.
void merge_pairs(std::vector<std::int64_t>& bins) {
  const std::size_t half = bins.size() / 2;
  for (std::size_t i = 0; i < half; ++i) bins[i] = bins[2 * i] + bins[2 * i + 1];
  std::fill(bins.begin() + static_cast<std::ptrdiff_t>(half), bins.end(), 0);
}

}  // namespace

bool ValueStatistics::add(std::span<const float> values, std::int64_t sample_count) {
  float low = 0;
  float high = 0;
  bool finite = true;
  for (const float value : values) {
    low = std::min(low, value);
    high = std::max(high, value);
    finite = finite && std::fabs(value) <= std::numeric_limits<float>::max();
  }
  if (!finite) return false;
  if (values.empty()) return true;

  // min and max of all elements, which zero needn't be part of.
  float least = values[0];
  float most = values[0];
  for (const float value : values) {
    least = std::min(least, value);
    most = std::max(most, value);
  }
  min = count == 0 ? least : std::min(min, static_cast<double>(least));
  max = count == 0 ? most : std::max(max, static_cast<double>(most));

  const double largest = std::max(-static_cast<double>(low), static_cast<double>(high));
  if (largest > 0) {
    if (bin_width == 0) {
      positive.assign(kBins, 0);
      negative.assign(kBins, 0);
      bin_width = largest / static_cast<double>(kBins);
    }
    while (largest > bin_width * static_cast<double>(kBins)) {
      bin_width *= 2;
      merge_pairs(positive);
      merge_pairs(negative);
    }
  }
  const double inverse = bin_width > 0 ? 1.0 / bin_width : 0.0;
  const auto bin_of = [&](float magnitude) {
    return std::min(kBins - 1, static_cast<std::size_t>(static_cast<double>(magnitude) * inverse));
  };
  std::int64_t zero_count = 0;
  for (const float value : values) {
    if (value > 0) {
      ++positive[bin_of(value)];
    } else if (value < 0) {
      ++negative[bin_of(-value)];
    } else {
      ++zero_count;
    }
  }
  zeros += zero_count;
  count += static_cast<std::int64_t>(values.size());

  const std::size_t size =
      sample_count > 0 ? values.size() / static_cast<std::size_t>(sample_count) : 0;
  if (sum.empty()) sum.assign(size, 0.0);
  if (size == sum.size()) {
    for (std::int64_t s = 0; s < sample_count; ++s) {
      const float* sample = values.data() + static_cast<std::size_t>(s) * size;
      for (std::size_t i = 0; i < size; ++i) sum[i] += sample[i];
    }
    samples += sample_count;
  }
  return true;
}

std::vector<double> ValueStatistics::mean() const {
  std::vector<double> out = sum;
  for (double& value : out) value = samples > 0 ? value / static_cast<double>(samples) : 0.0;
  return out;
}

}  // namespace kerf::compress
