#include "workers/compress/quantize_groups.h"

#include <algorithm>

#include "workers/compress/quantize_asymmetric.h"

namespace kerf::compress {

using graph::Tensor;

Result<QuantizedWeights> quantize_groups(const Tensor& weights, std::size_t axis,
                                         std::int64_t group, bool symmetric,
                                         const WeightQuantization& how) {
  const bool rows = axis == 0;  // a channel is a row
  const std::int64_t channels = weights.dim(axis);
  const std::int64_t inputs = weights.dim(1 - axis);
  const std::int64_t groups = (inputs + group - 1) / group;
  const auto at = [&](std::int64_t channel, std::int64_t input) {
    return static_cast<std::size_t>(rows ? channel * inputs + input : input * channels + channel);
  };
  const auto scale_at = [&](std::int64_t channel, std::int64_t g) {
    return static_cast<std::size_t>(rows ? channel * groups + g : g * channels + channel);
  };
  QuantizedWeights out;
  out.group = group;
  out.values = Tensor(graph::DType::kS8, weights.shape());
  out.scales.assign(static_cast<std::size_t>(channels * groups), 1.0F);
  if (!symmetric) out.zeros.assign(out.scales.size(), 0);
  const auto source = weights.as<float>();
  const auto target = out.values.mutable_as<std::int8_t>();
  WeightQuantization each = how;
  each.per_channel = true;
  // Groups of one length at a time, as rows of a matrix of their own.
  for (std::int64_t g = 0; g < groups; ++g) {
    const std::int64_t begin = g * group;
    const std::int64_t length = std::min(group, inputs - begin);
    Tensor part(graph::DType::kF32, {channels, length});
    const auto values = part.mutable_as<float>();
    for (std::int64_t c = 0; c < channels; ++c) {
      for (std::int64_t i = 0; i < length; ++i) {
        values[static_cast<std::size_t>(c * length + i)] = source[at(c, begin + i)];
      }
    }
    auto rounded = symmetric ? quantize_weights(part, 0, each) : quantize_asymmetric(part, 0, each);
    if (!rounded.has_value()) return with_context("group " + std::to_string(g), rounded.error());
    const auto integers = rounded->values.as<std::int8_t>();
    for (std::int64_t c = 0; c < channels; ++c) {
      out.scales[scale_at(c, g)] = rounded->scales[static_cast<std::size_t>(c)];
      if (!symmetric) out.zeros[scale_at(c, g)] = rounded->zeros[static_cast<std::size_t>(c)];
      for (std::int64_t i = 0; i < length; ++i) {
        target[at(c, begin + i)] = integers[static_cast<std::size_t>(c * length + i)];
      }
    }
  }
  return out;
}

}  // namespace kerf::compress
