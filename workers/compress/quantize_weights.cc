#include "workers/compress/quantize_weights.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>

namespace kerf::compress {
namespace {

using graph::Tensor;

constexpr double kPercentile = 99.9;

/// Rounds to an integer, ties to even, by the f32 adder itself: exact for |x| < 2^22, and the
/// compiler can vectorise it.
inline float round_even(float x) {
  constexpr float kMagic = 12582912.0F;  // 1.5 · 2^23
  return (x + kMagic) - kMagic;
}

/// The elements of one scale lie in runs of `inner` elements, `stride` apart.
struct Slices {
  std::size_t count;  // of scales
  std::size_t inner;
  std::size_t stride;  // elements between the runs of one scale
  std::size_t runs;
};

Slices slices_of(const Tensor& weights, std::size_t axis, bool per_channel) {
  const auto total = static_cast<std::size_t>(weights.elements());
  if (!per_channel || weights.rank() == 0) return {1, total, total, 1};
  const auto rows = static_cast<std::size_t>(weights.dim(axis));
  std::size_t inner = 1;
  for (std::size_t i = axis + 1; i < weights.rank(); ++i)
    inner *= static_cast<std::size_t>(weights.dim(i));
  const std::size_t stride = rows * inner;
  return {rows, inner, stride, stride == 0 ? 0 : total / stride};
}

/// Sum of (|w| − s·q)² for magnitudes.
double squared_error(std::span<const float> magnitudes, float scale, float top) {
  const float inverse = 1.0F / scale;
  double sum = 0;
  // f32 sums of a block keep their precision; independent lanes let the compiler vectorise.
  constexpr std::size_t kBlock = 256;
  constexpr std::size_t kLanes = 8;
  const auto square = [&](float magnitude) {
    const float scaled = magnitude * inverse;
    const float error = scaled - round_even(scaled < top ? scaled : top);
    return error * error;
  };
  for (std::size_t begin = 0; begin < magnitudes.size(); begin += kBlock) {
    const std::size_t end = std::min(magnitudes.size(), begin + kBlock);
    float lanes[kLanes] = {};
    std::size_t i = begin;
    for (; i + kLanes <= end; i += kLanes) {
      for (std::size_t k = 0; k < kLanes; ++k) lanes[k] += square(magnitudes[i + k]);
    }
    for (; i < end; ++i) lanes[0] += square(magnitudes[i]);
    for (const float lane : lanes) sum += static_cast<double>(lane);
  }
  return sum * static_cast<double>(scale) * static_cast<double>(scale);
}

float best_threshold(std::span<const float> magnitudes, float largest, float top) {
  float best = largest;
  double least = std::numeric_limits<double>::infinity();
  const auto try_one = [&](float threshold) {
    const float scale = threshold / top;
    if (!(scale >= std::numeric_limits<float>::min())) return;
    const double error = squared_error(magnitudes, scale, top);
    if (error < least) {
      least = error;
      best = threshold;
    }
  };
  constexpr int kCoarse = 48;
  constexpr float kLowest = 1.0F / 20;
  const float step = (1.0F - kLowest) / (kCoarse - 1);
  try_one(largest);  // first, so that it wins where clipping gains nothing
  for (int i = 0; i < kCoarse; ++i) try_one(largest * (kLowest + step * static_cast<float>(i)));
  const float centre = best;
  constexpr int kFine = 16;
  for (int i = 1; i <= kFine; ++i) {
    const float offset = step * (2.0F * static_cast<float>(i) / (kFine + 1) - 1.0F);
    const float threshold = centre + largest * offset;
    if (threshold > 0 && threshold <= largest) try_one(threshold);
  }
  return best;
}

float threshold_of(std::vector<float>& magnitudes, const std::string& range, float top) {
  const float largest =
      magnitudes.empty() ? 0.0F : *std::max_element(magnitudes.begin(), magnitudes.end());
  if (largest == 0.0F || range == "minmax") return largest;
  if (range == "percentile") {
    const float threshold = percentile(magnitudes, kPercentile);
    return threshold > 0 ? threshold : largest;
  }
  return best_threshold(magnitudes, largest, top);
}

}  // namespace

float percentile(std::vector<float>& values, double p) {
  if (values.empty()) return 0;
  const double place = p / 100.0 * static_cast<double>(values.size() - 1);
  const auto below = static_cast<std::size_t>(std::floor(place));
  const auto nth = values.begin() + static_cast<std::ptrdiff_t>(below);
  std::nth_element(values.begin(), nth, values.end());
  if (below + 1 >= values.size()) return *nth;
  const float above = *std::min_element(nth + 1, values.end());
  return static_cast<float>(*nth + (place - static_cast<double>(below)) *
                                       (static_cast<double>(above) - *nth));
}

Result<QuantizedWeights> quantize_weights(const Tensor& weights, std::size_t axis,
                                          const WeightQuantization& how) {
  const auto source = weights.as<float>();
  for (std::size_t i = 0; i < source.size(); ++i) {
    if (!std::isfinite(source[i])) {
      return invalid_argument("weight " + std::to_string(i) + " is not finite");
    }
  }
  const float top = static_cast<float>((1 << (how.bits - 1)) - 1);
  const Slices slices = slices_of(weights, axis, how.per_channel);
  QuantizedWeights out;
  out.values = Tensor(graph::DType::kS8, weights.shape());
  out.scales.reserve(slices.count);
  const auto target = out.values.mutable_as<std::int8_t>();
  std::vector<float> magnitudes;
  for (std::size_t c = 0; c < slices.count; ++c) {
    magnitudes.clear();
    magnitudes.reserve(slices.runs * slices.inner);
    for (std::size_t r = 0; r < slices.runs; ++r) {
      const std::size_t begin = r * slices.stride + c * slices.inner;
      for (std::size_t i = begin; i < begin + slices.inner; ++i)
        magnitudes.push_back(std::fabs(source[i]));
    }
    const float threshold = threshold_of(magnitudes, how.range, top);
    float scale = 1.0F;
    if (threshold > 0) scale = std::max(threshold / top, std::numeric_limits<float>::min());
    out.scales.push_back(scale);
    for (std::size_t r = 0; r < slices.runs; ++r) {
      const std::size_t begin = r * slices.stride + c * slices.inner;
      for (std::size_t i = begin; i < begin + slices.inner; ++i) {
        target[i] = static_cast<std::int8_t>(round_even(std::clamp(source[i] / scale, -top, top)));
      }
    }
  }
  return out;
}

Tensor dequantize(const QuantizedWeights& weights, std::size_t axis) {
  Tensor out(graph::DType::kF32, weights.values.shape());
  const auto source = weights.values.as<std::int8_t>();
  const auto target = out.mutable_as<float>();
  const bool many = weights.scales.size() > 1;
  const Slices slices = slices_of(weights.values, axis, many && weights.group == 0);
  const auto scale_of = [&](std::size_t i) {
    if (!many) return std::size_t{0};
    if (weights.group == 0) return i / slices.inner % slices.count;
    // [in, out] or [out, in], with blocks along `in`.
    const auto columns = static_cast<std::size_t>(weights.values.dim(1));
    const auto group = static_cast<std::size_t>(weights.group);
    const std::size_t row = i / columns;
    const std::size_t column = i % columns;
    if (axis == 0) return row * ((columns + group - 1) / group) + column / group;
    return row / group * columns + column;
  };
  for (std::size_t i = 0; i < source.size(); ++i) {
    const std::size_t k = scale_of(i);
    const int zero = weights.zeros.empty() ? 0 : weights.zeros[k];
    target[i] = static_cast<float>(source[i] - zero) * weights.scales[k];
  }
  return out;
}

}  // namespace kerf::compress
