// BatchNormalization, InstanceNormalization, LayerNormalization, LRN, Softmax and LogSoftmax.
#include <algorithm>
#include <cmath>

#include "workers/engine/geometry.h"
#include "workers/engine/reference/kernels.h"

namespace kerf::engine::reference {
namespace {

bool all_f32(Inputs inputs) {
  return std::all_of(inputs.begin(), inputs.end(), [](const Tensor& t) {
    return t.raw() == nullptr || t.dtype() == DType::kF32;
  });
}

Outputs batch_normalization(const Node& node, Inputs inputs) {
  if (inputs.size() < 5 || !all_f32(inputs) || inputs[0].rank() < 2) return bad(node, "expected five f32 inputs");
  const Tensor& x = inputs[0];
  const std::int64_t channels = x.dim(1);
  for (std::size_t i = 1; i < 5; ++i) {
    if (inputs[i].elements() != channels) return bad(node, "parameters don't fit the channels");
  }
  Tensor out(DType::kF32, x.shape());
  const double epsilon = static_cast<double>(node.real("epsilon", 1e-5F));
  const auto to = out.mutable_as<float>();
  const auto from = x.as<float>();
  if (to.empty()) return std::vector<Tensor>{std::move(out)};
  const std::size_t size = to.size() / static_cast<std::size_t>(channels * x.dim(0));
  for (std::size_t i = 0; i < to.size(); ++i) {
    const std::size_t c = i / size % static_cast<std::size_t>(channels);
    const auto p = [&](std::size_t k) { return static_cast<double>(inputs[k].as<float>()[c]); };
    to[i] = static_cast<float>((static_cast<double>(from[i]) - p(3)) / std::sqrt(p(4) + epsilon) * p(1) + p(2));
  }
  return std::vector<Tensor>{std::move(out)};
}

/// Normalizes runs of `size` elements; scale and bias chosen by the functions.
template <class Scale, class Bias>
Tensor normalize_runs(const Tensor& x, std::size_t size, double epsilon, Scale&& scale, Bias&& bias) {
  Tensor out(DType::kF32, x.shape());
  const auto from = x.as<float>();
  const auto to = out.mutable_as<float>();
  for (std::size_t start = 0; start + size <= from.size() && size > 0; start += size) {
    double mean = 0;
    double square = 0;
    for (std::size_t i = 0; i < size; ++i) mean += static_cast<double>(from[start + i]);
    mean /= static_cast<double>(size);
    for (std::size_t i = 0; i < size; ++i) {
      const double d = static_cast<double>(from[start + i]) - mean;
      square += d * d;
    }
    const double inverse = 1.0 / std::sqrt(square / static_cast<double>(size) + epsilon);
    for (std::size_t i = 0; i < size; ++i) {
      const double v = (static_cast<double>(from[start + i]) - mean) * inverse;
      to[start + i] = static_cast<float>(v * scale(start, i) + bias(start, i));
    }
  }
  return out;
}

Outputs instance_normalization(const Node& node, Inputs inputs) {
  if (inputs.size() < 3 || !all_f32(inputs) || inputs[0].rank() < 2) return bad(node, "expected three f32 inputs");
  const Tensor& x = inputs[0];
  const auto channels = static_cast<std::size_t>(x.dim(1));
  const std::size_t planes = static_cast<std::size_t>(x.dim(0)) * channels;
  if (inputs[1].elements() != x.dim(1) || inputs[2].elements() != x.dim(1)) {
    return bad(node, "parameters don't fit the channels");
  }
  const std::size_t size = planes == 0 ? 0 : static_cast<std::size_t>(x.elements()) / planes;
  const auto at = [&](std::size_t k, std::size_t start) {
    return static_cast<double>(inputs[k].as<float>()[start / size % channels]);
  };
  return std::vector<Tensor>{normalize_runs(
      x, size, static_cast<double>(node.real("epsilon", 1e-5F)),
      [&](std::size_t start, std::size_t) { return at(1, start); },
      [&](std::size_t start, std::size_t) { return at(2, start); })};
}

Outputs layer_normalization(const Node& node, Inputs inputs) {
  if (inputs.size() < 2 || !all_f32(inputs)) return bad(node, "expected f32");
  const Tensor& x = inputs[0];
  const std::int64_t axis = normalized_axis(node.integer("axis", -1), x.rank());
  if (axis < 0) return bad(node, "axis outside the input");
  const Shape tail(x.shape().begin() + axis, x.shape().end());
  std::size_t size = 1;
  for (const std::int64_t extent : tail) size *= static_cast<std::size_t>(extent);
  const auto parameter = [&](std::size_t k) -> Result<std::vector<float>> {
    const auto fits = broadcast_shapes(inputs[k].shape(), tail);
    if (!fits.has_value() || *fits != tail) return bad(node, "parameters don't fit the axes");
    const auto values = inputs[k].as<float>();
    std::vector<float> out;
    walk(tail, std::array<Shape, 1>{broadcast_strides(inputs[k].shape(), tail)},
         [&](const auto& at) { out.push_back(values[static_cast<std::size_t>(at[0])]); });
    return out;
  };
  KERF_ASSIGN(const std::vector<float> scale, parameter(1));
  std::vector<float> bias(size, 0.0F);
  if (given(inputs, 2)) {
    KERF_ASSIGN(bias, parameter(2));
  }
  const double epsilon = static_cast<double>(node.real("epsilon", 1e-5F));
  std::vector<Tensor> results{normalize_runs(
      x, size, epsilon, [&](std::size_t, std::size_t i) { return static_cast<double>(scale[i]); },
      [&](std::size_t, std::size_t i) { return static_cast<double>(bias[i]); })};
  if (node.outputs.size() == 1) return results;
  // Mean and 1 / standard deviation of each run.
  Shape kept = x.shape();
  for (auto i = static_cast<std::size_t>(axis); i < kept.size(); ++i) kept[i] = 1;
  Tensor means(DType::kF32, kept);
  Tensor inverses(DType::kF32, kept);
  for (std::size_t run = 0; run < means.as<float>().size(); ++run) {
    const auto values = x.as<float>().subspan(run * size, size);
    double mean = 0;
    double square = 0;
    for (const float v : values) mean += static_cast<double>(v) / static_cast<double>(size);
    for (const float v : values) {
      const double d = static_cast<double>(v) - mean;
      square += d * d / static_cast<double>(size);
    }
    means.mutable_as<float>()[run] = static_cast<float>(mean);
    inverses.mutable_as<float>()[run] = static_cast<float>(1.0 / std::sqrt(square + epsilon));
  }
  results.push_back(std::move(means));
  results.push_back(std::move(inverses));
  return results;
}

Outputs lrn(const Node& node, Inputs inputs) {
  const Tensor& x = inputs[0];
  if (x.dtype() != DType::kF32 || x.rank() < 3) return bad(node, "expected f32 of rank 3 or more");
  const std::int64_t size = node.integer("size", 1);
  const auto alpha = static_cast<double>(node.real("alpha", 1e-4F));
  const auto beta = static_cast<double>(node.real("beta", 0.75F));
  const auto bias = static_cast<double>(node.real("bias", 1.0F));
  Tensor out(DType::kF32, x.shape());
  const std::int64_t channels = x.dim(1);
  if (x.elements() == 0 || size < 1) return std::vector<Tensor>{std::move(out)};
  const std::int64_t plane = x.elements() / (x.dim(0) * channels);
  const auto from = x.as<float>();
  const auto to = out.mutable_as<float>();
  for (std::int64_t n = 0; n < x.dim(0); ++n) {
    for (std::int64_t c = 0; c < channels; ++c) {
      for (std::int64_t p = 0; p < plane; ++p) {
        double sum = 0;
        const std::int64_t first = std::max<std::int64_t>(0, c - (size - 1) / 2);
        const std::int64_t last = std::min<std::int64_t>(channels - 1, c + size / 2);
        for (std::int64_t i = first; i <= last; ++i) {
          const auto v = static_cast<double>(from[static_cast<std::size_t>((n * channels + i) * plane + p)]);
          sum += v * v;
        }
        const auto at = static_cast<std::size_t>((n * channels + c) * plane + p);
        to[at] = static_cast<float>(static_cast<double>(from[at]) /
                                    std::pow(bias + alpha / static_cast<double>(size) * sum, beta));
      }
    }
  }
  return std::vector<Tensor>{std::move(out)};
}

Outputs softmax(const Node& node, Inputs inputs) {
  const Tensor& x = inputs[0];
  const std::int64_t axis = normalized_axis(node.integer("axis", -1), x.rank());
  if (x.dtype() != DType::kF32 || axis < 0) return bad(node, "expected f32 and an axis inside it");
  const std::int64_t extent = x.dim(static_cast<std::size_t>(axis));
  const std::int64_t inner = row_major_strides(x.shape())[static_cast<std::size_t>(axis)];
  Tensor out(DType::kF32, x.shape());
  const auto from = x.as<float>();
  const auto to = out.mutable_as<float>();
  for (std::int64_t run = 0; run * extent < x.elements(); ++run) {
    const std::int64_t start = run / inner * inner * extent + run % inner;
    const auto at = [&](std::int64_t i) { return static_cast<std::size_t>(start + i * inner); };
    double high = -INFINITY;
    for (std::int64_t i = 0; i < extent; ++i) high = std::max(high, static_cast<double>(from[at(i)]));
    double sum = 0;
    for (std::int64_t i = 0; i < extent; ++i) sum += std::exp(static_cast<double>(from[at(i)]) - high);
    for (std::int64_t i = 0; i < extent; ++i) {
      const double shifted = static_cast<double>(from[at(i)]) - high;
      to[at(i)] = static_cast<float>(node.op == "Softmax" ? std::exp(shifted) / sum
                                                          : shifted - std::log(sum));
    }
  }
  return std::vector<Tensor>{std::move(out)};
}

}  // namespace

void add_normalization(Registry& registry) {
  registry["BatchNormalization"] = batch_normalization;
  registry["InstanceNormalization"] = instance_normalization;
  registry["LayerNormalization"] = layer_normalization;
  registry["LRN"] = lrn;
  registry["Softmax"] = softmax;
  registry["LogSoftmax"] = softmax;
}

}  // namespace kerf::engine::reference
