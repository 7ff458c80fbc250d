#include "workers/compress/prune_unstructured.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

namespace kerf::compress {

using graph::Tensor;

Tensor prune_by_magnitude(const Tensor& weights, double ratio) {
  Tensor out = weights;
  const auto values = out.mutable_as<float>();
  const auto count =
      static_cast<std::size_t>(std::llround(ratio * static_cast<double>(values.size())));
  if (count == 0) return out;
  std::vector<std::uint32_t> order(values.size());
  std::iota(order.begin(), order.end(), 0U);
  const auto smaller = [&](std::uint32_t a, std::uint32_t b) {
    const float x = std::fabs(values[a]);
    const float y = std::fabs(values[b]);
    return x != y ? x < y : a < b;
  };
  if (count < order.size()) {
    std::nth_element(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(count), order.end(),
                     smaller);
  }
  for (std::size_t i = 0; i < std::min(count, order.size()); ++i) values[order[i]] = 0.0F;
  return out;
}

Tensor prune_n_of_m(const Tensor& weights, std::size_t axis, int n, int m) {
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
          return std::fabs(values[a]) > std::fabs(values[b]);
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
