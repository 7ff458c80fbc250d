// GroupNormalization, RMSNormalization, MeanVarianceNormalization, LpNormalization, Hardmax.
#include <algorithm>
#include <cmath>
#include <set>

#include "workers/engine/geometry.h"
#include "workers/engine/reference/kernels.h"

namespace kerf::engine::reference {
namespace {

/// Calls f(first, step, count) for each run of elements along the axis.
template <class F>
void each_run(const Tensor& x, std::int64_t axis, F&& f) {
  const std::int64_t extent = x.dim(static_cast<std::size_t>(axis));
  const std::int64_t inner = row_major_strides(x.shape())[static_cast<std::size_t>(axis)];
  for (std::int64_t run = 0; extent > 0 && run * extent < x.elements(); ++run) {
    f(static_cast<std::size_t>(run / inner * inner * extent + run % inner),
      static_cast<std::size_t>(inner), static_cast<std::size_t>(extent));
  }
}

Result<std::int64_t> checked_axis(const Node& node, const Tensor& x) {
  const std::int64_t axis = normalized_axis(node.integer("axis", -1), x.rank());
  if (axis < 0 || x.dtype() != DType::kF32) return bad(node, "expected f32 and an axis inside it");
  return axis;
}

Outputs group_normalization(const Node& node, Inputs inputs) {
  const Tensor& x = inputs[0];
  const std::int64_t groups = node.integer("num_groups", 0);
  if (x.dtype() != DType::kF32 || inputs[1].dtype() != DType::kF32 ||
      inputs[2].dtype() != DType::kF32 || x.rank() < 2 || groups < 1 || x.dim(1) % groups != 0 ||
      inputs[1].elements() != x.dim(1) || inputs[2].elements() != x.dim(1)) {
    return bad(node, "groups, scale or bias don't fit the channels");
  }
  const double epsilon = static_cast<double>(node.real("epsilon", 1e-5F));
  Tensor out(DType::kF32, x.shape());
  if (x.elements() == 0) return std::vector<Tensor>{std::move(out)};
  const auto from = x.as<float>();
  const auto to = out.mutable_as<float>();
  const auto size = from.size() / static_cast<std::size_t>(x.dim(0) * groups);
  const auto plane = from.size() / static_cast<std::size_t>(x.dim(0) * x.dim(1));
  for (std::size_t start = 0; start < from.size(); start += size) {
    double mean = 0;
    double square = 0;
    for (std::size_t i = 0; i < size; ++i) mean += static_cast<double>(from[start + i]);
    mean /= static_cast<double>(size);
    for (std::size_t i = 0; i < size; ++i) {
      const double d = static_cast<double>(from[start + i]) - mean;
      square += d * d;
    }
    const double inverse = 1.0 / std::sqrt(square / static_cast<double>(size) + epsilon);
    for (std::size_t i = start; i < start + size; ++i) {
      const std::size_t c = i / plane % static_cast<std::size_t>(x.dim(1));
      to[i] = static_cast<float>((static_cast<double>(from[i]) - mean) * inverse *
                                     static_cast<double>(inputs[1].as<float>()[c]) +
                                 static_cast<double>(inputs[2].as<float>()[c]));
    }
  }
  return std::vector<Tensor>{std::move(out)};
}

Outputs rms_normalization(const Node& node, Inputs inputs) {
  const Tensor& x = inputs[0];
  KERF_ASSIGN(const std::int64_t axis, checked_axis(node, x));
  const auto fits = broadcast_shapes(inputs[1].shape(), x.shape());
  if (!fits.has_value() || *fits != x.shape() || inputs[1].dtype() != DType::kF32)
    return bad(node, "scale doesn't fit the axes");
  std::size_t size = 1;
  for (auto i = static_cast<std::size_t>(axis); i < x.rank(); ++i)
    size *= static_cast<std::size_t>(x.dim(i));
  const double epsilon = static_cast<double>(node.real("epsilon", 1e-5F));
  Tensor out(DType::kF32, x.shape());
  const auto from = x.as<float>();
  const auto to = out.mutable_as<float>();
  for (std::size_t start = 0; size > 0 && start < from.size(); start += size) {
    double square = 0;
    for (std::size_t i = start; i < start + size; ++i)
      square += static_cast<double>(from[i]) * static_cast<double>(from[i]);
    const double inverse = 1.0 / std::sqrt(square / static_cast<double>(size) + epsilon);
    for (std::size_t i = start; i < start + size; ++i)
      to[i] = static_cast<float>(static_cast<double>(from[i]) * inverse);
  }
  std::size_t next = 0;
  walk(x.shape(), std::array<Shape, 1>{broadcast_strides(inputs[1].shape(), x.shape())},
       [&](const auto& at) { to[next++] *= inputs[1].as<float>()[static_cast<std::size_t>(at[0])]; });
  return std::vector<Tensor>{std::move(out)};
}

Outputs mean_variance(const Node& node, Inputs inputs) {
  const Tensor& x = inputs[0];
  if (x.dtype() != DType::kF32) return bad(node, "expected f32");
  std::set<std::int64_t> axes;
  for (const std::int64_t axis : node.integers("axes", {0, 2, 3})) {
    const std::int64_t at = normalized_axis(axis, x.rank());
    if (at < 0) return bad(node, "axis outside the input");
    axes.insert(at);
  }
  Shape kept = x.shape();
  for (const std::int64_t axis : axes) kept[static_cast<std::size_t>(axis)] = 1;
  const auto groups = static_cast<std::size_t>(*graph::element_count(kept));
  const auto from = x.as<float>();
  Tensor out(DType::kF32, x.shape());
  const auto to = out.mutable_as<float>();
  if (from.empty()) return std::vector<Tensor>{std::move(out)};
  const double count = static_cast<double>(from.size()) / static_cast<double>(groups);
  std::vector<double> mean(groups, 0.0);
  std::vector<double> square(groups, 0.0);
  const std::array<Shape, 1> strides{broadcast_strides(kept, x.shape())};
  std::size_t i = 0;
  walk(x.shape(), strides, [&](const auto& at) {
    mean[static_cast<std::size_t>(at[0])] += static_cast<double>(from[i++]) / count;
  });
  i = 0;
  walk(x.shape(), strides, [&](const auto& at) {
    const double d = static_cast<double>(from[i++]) - mean[static_cast<std::size_t>(at[0])];
    square[static_cast<std::size_t>(at[0])] += d * d / count;
  });
  i = 0;
  walk(x.shape(), strides, [&](const auto& at) {
    const auto g = static_cast<std::size_t>(at[0]);
    to[i] = static_cast<float>((static_cast<double>(from[i]) - mean[g]) / (std::sqrt(square[g]) + 1e-9));
    ++i;
  });
  return std::vector<Tensor>{std::move(out)};
}

Outputs lp_normalization(const Node& node, Inputs inputs) {
  const Tensor& x = inputs[0];
  KERF_ASSIGN(const std::int64_t axis, checked_axis(node, x));
  const std::int64_t p = node.integer("p", 2);
  if (p != 1 && p != 2) return bad(node, "p must be 1 or 2");
  Tensor out(DType::kF32, x.shape());
  const auto from = x.as<float>();
  const auto to = out.mutable_as<float>();
  each_run(x, axis, [&](std::size_t first, std::size_t step, std::size_t count) {
    double sum = 0;
    for (std::size_t i = 0; i < count; ++i) {
      const auto v = static_cast<double>(from[first + i * step]);
      sum += p == 1 ? std::fabs(v) : v * v;
    }
    const double norm = p == 1 ? sum : std::sqrt(sum);
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t at = first + i * step;
      to[at] = norm == 0 ? 0.0F : static_cast<float>(static_cast<double>(from[at]) / norm);
    }
  });
  return std::vector<Tensor>{std::move(out)};
}

Outputs hardmax(const Node& node, Inputs inputs) {
  const Tensor& x = inputs[0];
  KERF_ASSIGN(const std::int64_t axis, checked_axis(node, x));
  Tensor out(DType::kF32, x.shape());
  const auto from = x.as<float>();
  const auto to = out.mutable_as<float>();
  each_run(x, axis, [&](std::size_t first, std::size_t step, std::size_t count) {
    std::size_t best = 0;
    for (std::size_t i = 1; i < count; ++i) {
      if (from[first + i * step] > from[first + best * step]) best = i;
    }
    to[first + best * step] = 1.0F;
  });
  return std::vector<Tensor>{std::move(out)};
}

}  // namespace

void add_axis_normalization(Registry& registry) {
  registry["GroupNormalization"] = group_normalization;
  registry["RMSNormalization"] = rms_normalization;
  registry["MeanVarianceNormalization"] = mean_variance;
  registry["LpNormalization"] = lp_normalization;
  registry["Hardmax"] = hardmax;
}

}  // namespace kerf::engine::reference
