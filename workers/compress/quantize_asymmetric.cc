#include "workers/compress/quantize_asymmetric.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace kerf::compress {
namespace {

using graph::Tensor;

constexpr double kTail = 0.1;  // per cent beyond each end

struct Grid {
  float scale = 1;
  int zero = 0;
};

Grid grid_of(double low, double high, int bits) {
  Grid out;
  if (!(high > low)) return out;
  const double steps = static_cast<double>((1 << bits) - 1);
  const double least = -static_cast<double>(1 << (bits - 1));
  out.scale = std::max(static_cast<float>((high - low) / steps), std::numeric_limits<float>::min());
  const double zero = std::nearbyint(least - low / static_cast<double>(out.scale));
  out.zero = static_cast<int>(std::clamp(zero, least, least + steps));
  return out;
}

int round_on(const Grid& grid, float weight, int bits) {
  const double least = -static_cast<double>(1 << (bits - 1));
  const double steps = static_cast<double>(weight) / static_cast<double>(grid.scale);
  const double q = std::nearbyint(steps) + grid.zero;
  return static_cast<int>(std::clamp(q, least, least + static_cast<double>((1 << bits) - 1)));
}

double squared_error(const std::vector<float>& weights, const Grid& grid, int bits) {
  double sum = 0;
  for (const float weight : weights) {
    const auto steps = static_cast<double>(round_on(grid, weight, bits) - grid.zero);
    const double error = static_cast<double>(weight) - steps * static_cast<double>(grid.scale);
    sum += error * error;
  }
  return sum;
}

struct Ends {
  double low = 0;
  double high = 0;
};

Ends least_error(const std::vector<float>& weights, const Ends& whole, int bits) {
  Ends best = whole;
  double least = squared_error(weights, grid_of(whole.low, whole.high, bits), bits);
  const auto try_ends = [&](double low, double high) {
    if (!(high - low >= std::numeric_limits<float>::min())) return;
    const double error = squared_error(weights, grid_of(low, high, bits), bits);
    if (error < least) {
      least = error;
      best = {low, high};
    }
  };
  constexpr int kCoarse = 40;
  for (int i = 1; i < kCoarse; ++i) {
    const double share = 1.0 - 0.95 * i / (kCoarse - 1);
    try_ends(whole.low * share, whole.high * share);
  }
  constexpr int kFine = 16;
  for (const bool of_low : {true, false}) {
    const Ends centre = best;
    for (int i = 1; i <= kFine; ++i) {
      const double share = 0.7 + 0.6 * i / kFine;
      try_ends(of_low ? std::max(whole.low, centre.low * share) : centre.low,
               of_low ? centre.high : std::min(whole.high, centre.high * share));
    }
  }
  return best;
}

double percentile_of(std::vector<float>& values, double p) {
  const double place = p / 100.0 * static_cast<double>(values.size() - 1);
  const auto below = static_cast<std::size_t>(std::floor(place));
  const auto nth = values.begin() + static_cast<std::ptrdiff_t>(below);
  std::nth_element(values.begin(), nth, values.end());
  if (below + 1 >= values.size()) return *nth;
  const double above = *std::min_element(nth + 1, values.end());
  const auto at = static_cast<double>(*nth);
  return at + (place - static_cast<double>(below)) * (above - at);
}

Ends ends_of(std::vector<float>& weights, const WeightQuantization& how) {
  Ends whole;
  for (const float weight : weights) {
    whole.low = std::min(whole.low, static_cast<double>(weight));
    whole.high = std::max(whole.high, static_cast<double>(weight));
  }
  if (how.range == "minmax" || !(whole.high > whole.low)) return whole;
  if (how.range == "percentile") {
    const Ends cut{std::min(0.0, percentile_of(weights, kTail)),
                   std::max(0.0, percentile_of(weights, 100 - kTail))};
    return cut.high > cut.low ? cut : whole;
  }
  return least_error(weights, whole, how.bits);
}

}  // namespace

Result<QuantizedWeights> quantize_asymmetric(const Tensor& weights, std::size_t axis,
                                             const WeightQuantization& how) {
  const auto source = weights.as<float>();
  for (std::size_t i = 0; i < source.size(); ++i) {
    if (!std::isfinite(source[i])) {
      return invalid_argument("weight " + std::to_string(i) + " is not finite");
    }
  }
  std::size_t channels = 1;
  std::size_t inner = 1;
  if (how.per_channel && weights.rank() > 0) {
    channels = static_cast<std::size_t>(weights.dim(axis));
    for (std::size_t i = axis + 1; i < weights.rank(); ++i) {
      inner *= static_cast<std::size_t>(weights.dim(i));
    }
  }
  std::vector<std::vector<float>> parts(channels);
  for (std::size_t i = 0; i < source.size(); ++i) parts[i / inner % channels].push_back(source[i]);
  QuantizedWeights out;
  out.values = Tensor(graph::DType::kS8, weights.shape());
  std::vector<Grid> grids;
  for (std::size_t c = 0; c < channels; ++c) {
    const Ends ends = ends_of(parts[c], how);
    if (ends.high - ends.low > static_cast<double>(std::numeric_limits<float>::max()) / 2) {
      return invalid_argument("channel " + std::to_string(c) +
                              ": its weights span more than a float holds");
    }
    grids.push_back(grid_of(ends.low, ends.high, how.bits));
    out.scales.push_back(grids.back().scale);
    out.zeros.push_back(static_cast<std::int8_t>(grids.back().zero));
  }
  const auto target = out.values.mutable_as<std::int8_t>();
  for (std::size_t i = 0; i < source.size(); ++i) {
    const Grid& grid = grids[i / inner % channels];
    target[i] = static_cast<std::int8_t>(round_on(grid, source[i], how.bits));
  }
  return out;
}

}  // namespace kerf::compress
