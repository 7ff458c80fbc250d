#include "workers/compress/moving_range.h"

#include <algorithm>
#include <array>

namespace kerf::compress {
namespace {

struct Ends {
  float low;
  float high;
};

Ends ends_of(std::span<const float> sample) {
  constexpr std::size_t kLanes = 16;  // independent, so that the compiler can vectorise
  std::array<float, kLanes> low;
  std::array<float, kLanes> high;
  low.fill(sample[0]);
  high.fill(sample[0]);
  const auto take = [&](float value, std::size_t lane) {
    low[lane] = value < low[lane] ? value : low[lane];
    high[lane] = value > high[lane] ? value : high[lane];
  };
  std::size_t i = 0;
  for (; i + kLanes <= sample.size(); i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) take(sample[i + lane], lane);
  }
  for (; i < sample.size(); ++i) take(sample[i], 0);
  return {*std::min_element(low.begin(), low.end()), *std::max_element(high.begin(), high.end())};
}

}  // namespace

void MovingRange::add(std::span<const float> values, std::int64_t sample_count) {
  if (sample_count < 1) return;
  const std::size_t size = values.size() / static_cast<std::size_t>(sample_count);
  if (size == 0) return;
  for (std::int64_t s = 0; s < sample_count; ++s) {
    const Ends ends = ends_of(values.subspan(static_cast<std::size_t>(s) * size, size));
    const double share = samples == 0 ? 1.0 : kShare;
    min += share * (static_cast<double>(ends.low) - min);
    max += share * (static_cast<double>(ends.high) - max);
    ++samples;
  }
}

}  // namespace kerf::compress
