#include "workers/compress/prune_unstructured.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "workers/compress/layer_input.h"

namespace kerf::compress {

using graph::Tensor;

namespace {

std::vector<double> magnitudes(const Tensor& weights) {
  std::vector<double> out;
  out.reserve(static_cast<std::size_t>(weights.elements()));
  for (const float value : weights.as<float>()) out.push_back(std::fabs(static_cast<double>(value)));
  return out;
}

/// Zeroes the least important of some elements.
void zero_least(std::vector<std::size_t>& places, std::span<const double> importance, double ratio,
                std::span<float> values) {
  const auto count =
      static_cast<std::size_t>(std::llround(ratio * static_cast<double>(places.size())));
  if (count == 0) return;
  if (count < places.size()) {
    std::nth_element(places.begin(), places.begin() + static_cast<std::ptrdiff_t>(count),
                     places.end(), [&](std::size_t a, std::size_t b) {
                       return importance[a] != importance[b] ? importance[a] < importance[b] : a < b;
                     });
  }
  for (std::size_t i = 0; i < std::min(count, places.size()); ++i) values[places[i]] = 0.0F;
}

}  // namespace

Tensor prune_least(const Tensor& weights, std::span<const double> importance, double ratio) {
  Tensor out = weights;
  std::vector<std::size_t> places(static_cast<std::size_t>(weights.elements()));
  std::iota(places.begin(), places.end(), std::size_t{0});
  zero_least(places, importance, ratio, out.mutable_as<float>());
  return out;
}

Tensor prune_by_magnitude(const Tensor& weights, double ratio) {
  return prune_least(weights, magnitudes(weights), ratio);
}

Tensor prune_least_by_row(const graph::Node& layer, const Tensor& weights,
                          std::span<const double> importance, double ratio) {
  Tensor out = weights;
  const WeightPlace at(layer, weights.shape());
  std::vector<std::size_t> places(at.columns);
  for (std::size_t r = 0; r < at.rows; ++r) {
    for (std::size_t c = 0; c < at.columns; ++c) places[c] = at(r, c);
    zero_least(places, importance, ratio, out.mutable_as<float>());
  }
  return out;
}

Tensor prune_n_of_m(const Tensor& weights, std::size_t axis, int n, int m) {
  return prune_n_of_m(weights, magnitudes(weights), axis, n, m);
}

Tensor prune_n_of_m(const Tensor& weights, std::span<const double> importance, std::size_t axis,
                    int n, int m) {
  Tensor out = weights;
  const auto values = out.mutable_as<float>();
  const auto length = static_cast<std::size_t>(weights.dim(axis));
  std::size_t inner = 1;
  for (std::size_t i = axis + 1; i < weights.rank(); ++i)
    inner *= static_cast<std::size_t>(weights.dim(i));
  const std::size_t outer = length * inner == 0 ? 0 : values.size() / (length * inner);
  std::vector<std::size_t> group;
  for (std::size_t o = 0; o < outer; ++o) {
    for (std::size_t k = 0; k < inner; ++k) {
      for (std::size_t begin = 0; begin < length; begin += static_cast<std::size_t>(m)) {
        group.clear();
        const std::size_t end = std::min(length, begin + static_cast<std::size_t>(m));
        for (std::size_t i = begin; i < end; ++i) group.push_back((o * length + i) * inner + k);
        std::stable_sort(group.begin(), group.end(), [&](std::size_t a, std::size_t b) {
          return importance[a] > importance[b];
        });
        for (std::size_t i = static_cast<std::size_t>(n); i < group.size(); ++i)
          values[group[i]] = 0.0F;
      }
    }
  }
  return out;
}

NOfM n_of_m(const std::string& structure) {
  const auto colon = structure.find(':');
  if (colon == std::string::npos) return {};
  return {std::stoi(structure.substr(0, colon)), std::stoi(structure.substr(colon + 1))};
}

double zero_share(const Tensor& weights) {
  if (weights.elements() == 0) return 0;
  std::int64_t zeros = 0;
  if (weights.dtype() == graph::DType::kF32) {
    const auto values = weights.as<float>();
    zeros = std::count(values.begin(), values.end(), 0.0F);
  } else {
    for (const float value : weights.to_floats()) zeros += value == 0.0F ? 1 : 0;
  }
  return static_cast<double>(zeros) / static_cast<double>(weights.elements());
}

}  // namespace kerf::compress
